"""Bodies are forwarded once and timed in both directions; the rest of one after an early response is no request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest

from autoregistry.names import MANIFEST_TYPES, Digest, Manifest
from autoregistry.proxy.backend import client as backends
from autoregistry.proxy.backend.client import MAX_MANIFEST_BYTES, Backend
from autoregistry.proxy.backend.transport import raw_request
from autoregistry.proxy.http import request_body
from autoregistry.proxy.pull.handler import PullHandler
from autoregistry.settings import Limits
from tests.fakes.docker import FakeImage, user_agent
from tests.fakes.wire import Exchange, RawBackend, connected
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.proxy_wire import between

HOST = b"Host: localhost:5000\r\n"
ACCEPT = f"Accept: {', '.join(MANIFEST_TYPES)}\r\n".encode()
PUT = b"PUT /v2/app/manifests/dev HTTP/1.1\r\n" + HOST
MIB = 1 << 20
REFUSED = b'{"errors":[{"code":"DENIED","message":"no"}]}'


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 9\r\n\r\n123456789",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n",
    ],
    ids=["sized", "chunked"],
)
async def test_get_with_a_body_reaches_neither_docker_nor_the_registry(
    tmp_path: Path, method: bytes, body: bytes
) -> None:
    """It is sent again after a push: the registry would take the next request for that body."""
    async with between(tmp_path) as wire:
        wire.docker.images["localhost:5000/app:dev"] = FakeImage("x")
        head = method + b" /v2/app/manifests/dev HTTP/1.1\r\n" + HOST + ACCEPT
        response = await wire.response_to(head + body, seconds=2)

        assert response.startswith(b"HTTP/1.1 400 a " + method + b" has no body\r\n")
        assert response.count(b"HTTP/1.") == 1
        assert (wire.backend.seen, wire.docker.pushed) == ([], [])


def _upload(port: int, size: int) -> tuple[int, bytes]:
    """Send all of an upload before reading anything; return how much could be sent, and the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        head = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST
        client.sendall(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size)
        sent, got = 0, b""
        while sent < size:
            client.sendall(b"x" * 65536)
            sent += 65536
            time.sleep(0.001)
        while piece := client.recv(65536):
            got += piece
    return sent, got


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nExpect: 200-maybe", id="expectation"),
        pytest.param(b"OPTIONS * HTTP/1.1", id="no path"),
        pytest.param(b"CONNECT localhost:5000 HTTP/1.1", id="tunnel"),
        pytest.param(b"CONNECT /v2/ HTTP/1.1", id="tunnel to a path"),
    ],
)
async def test_refusals_of_aiohttp_have_our_form(tmp_path: Path, lines: bytes) -> None:
    async with between(tmp_path) as wire:
        response = await wire.response_to(lines + b"\r\n" + HOST + b"Connection: close\r\n\r\n")

    assert response.startswith(b"HTTP/1.1 400 no")
    assert b"\r\nAutoregistry: not-a-registry-request\r\n" in response


async def test_rest_of_an_upload_after_an_early_response_is_no_head(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read(1000)
        length = b"Content-Length: %d\r\n\r\n" % len(REFUSED)
        exchange.writer.write(b"HTTP/1.1 403 Forbidden\r\n" + length + REFUSED)
        await exchange.writer.drain()
        while await exchange.reader.read(1 << 16):
            pass

    async with between(tmp_path, backend=RawBackend(script)) as wire:
        sent, response = await asyncio.to_thread(_upload, wire.port, 4 << 20)

    assert sent == 4 << 20
    assert response.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert response.endswith(REFUSED)
    assert response.count(b"HTTP/1.1") == 1


async def test_registry_that_accepts_nothing_of_an_upload_ends_in_502(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(60)

    limits = Limits(idle_seconds=0.5)
    async with (
        between(tmp_path, limits, RawBackend(script)) as wire,
        wire.client() as client,
    ):
        head = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + b"Content-Length: 999999999\r\n"

        async def send() -> None:
            await client.send(head + b"\r\n")
            while True:
                await client.send(b"x" * 65536)

        sending = asyncio.create_task(send())
        response = await client.head()
        sending.cancel()

    assert response.startswith(b"HTTP/1.1 502 ")
    assert b"it took nothing of an upload for 0.5 s" in response


async def test_client_that_sends_half_a_manifest_delays_no_other_client(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        exchange.writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await exchange.writer.drain()

    put = b"PUT /v2/app/manifests/dev HTTP/1.1\r\n" + HOST
    async with (
        between(tmp_path, Limits(idle_seconds=20), RawBackend(script)) as wire,
        wire.client() as half,
    ):
        await half.send(put + b"Content-Length: 2\r\n\r\n{")
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            whole = put + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
            response = await wire.response_to(whole, seconds=10)
        await half.send(b"}")
        late = await half.head()

    assert response.startswith(b"HTTP/1.1 201 Created")
    assert late.startswith(b"HTTP/1.1 201 Created")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: 2\r\n\r\n{", b"408 the manifest did not arrive within 0.3 s"),
        (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nzz\r\n", b"400 "),
    ],
    ids=["half of it", "no chunk"],
)
async def test_incomplete_manifest_is_reported_as_the_clients_fault(
    tmp_path: Path, sent: bytes, status: bytes
) -> None:
    async with between(tmp_path, Limits(idle_seconds=0.3)) as wire:
        put = b"PUT /v2/app/manifests/dev HTTP/1.1\r\n" + HOST
        response = await wire.response_to(put + sent, seconds=5)

        assert response.startswith((b"HTTP/1.1 " + status, b"HTTP/1.0 " + status)), response
        assert wire.backend.seen == []


async def test_manifest_that_arrives_byte_by_byte_ends_in_408(tmp_path: Path) -> None:
    async with between(tmp_path, Limits(idle_seconds=0.5)) as wire, wire.client() as client:

        async def trickle() -> None:
            await client.send(PUT + b"Content-Length: 1000\r\n\r\n")
            while True:
                await client.send(b" ")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        response = await client.head()
        trickling.cancel()

    assert response.startswith(b"HTTP/1.1 408 the manifest did not arrive within 0.5 s")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9000000", b"Transfer-Encoding: chunked"], ids=["sized", "chunked"]
)
async def test_manifest_that_is_too_large_is_refused_before_anything_is_asked_for_it(
    tmp_path: Path, framing: bytes
) -> None:
    """Its tag was held until the rest of it had come (review 13)."""
    async with between(tmp_path) as wire, wire.client() as client:
        await client.send(PUT + framing + b"\r\n\r\n")
        for _ in range(MAX_MANIFEST_BYTES // MIB + 1):
            await client.send(b"100000\r\n" * (b"chunked" in framing) + b"x" * MIB + b"\r\n")
        response = await client.head()

        assert response.startswith(b"HTTP/1.1 413 a manifest has at most 4 MiB\r\n")
        assert b"\r\nAutoregistry: manifest-too-large\r\n" in response
        assert (wire.backend.seen, wire.docker.inspected) == ([], [])


async def test_unfinished_manual_push_does_not_delay_our_push(lab: Lab) -> None:
    """A client that sent 4.3 MB and then nothing held the tag's lock for as long as it liked (review 13)."""
    built = lab.docker.build(f"{NAME}/app:dev", "v1")
    async with connected(lab.proxy.server.addresses[0][1]) as client:
        await client.send(PUT + b"Content-Length: 5000000\r\n\r\n" + b" " * 4_300_000)
        response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")
    assert response.headers["Docker-Content-Digest"] == built.digest


async def test_unfinished_manifests_share_one_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty clients could make the proxy hold 238 MiB (review 18)."""
    monkeypatch.setattr(request_body, "MAX_BUFFERED_BYTES", 3 * MIB)
    monkeypatch.setattr(request_body, "OWN_BUFFERED_BYTES", MIB)
    begun = PUT + b"Content-Length: %d\r\n\r\n" % (MIB + 1) + b" " * MIB
    small = b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    own_agent = f"User-Agent: {user_agent('1')}\r\n".encode()
    async with between(tmp_path) as wire, wire.client() as stays:
        async with wire.client() as leaves:
            await stays.send(begun)
            await leaves.send(begun)
            await asyncio.sleep(0.5)
            refused = await wire.response_to(PUT + small)
            own = await wire.response_to(PUT + own_agent + small)
        await asyncio.sleep(0.5)
        accepted = await wire.response_to(PUT + small)
        await stays.send(b" ")
        finished = await stays.head()

    assert refused.startswith(b"HTTP/1.1 503 other clients are sending too many manifests")
    assert b"\r\nAutoregistry: too-busy\r\n" in refused
    assert own.startswith(b"HTTP/1.1 403 another client has pushed it")  # there is no push 1
    assert accepted.startswith(b"HTTP/1.1 200 OK")
    assert finished.startswith(b"HTTP/1.1 200 OK")


async def test_stalled_response_is_cut_off(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(60)

    limits = Limits(idle_seconds=0.3)
    async with between(tmp_path, limits, RawBackend(script)) as wire:
        request = b"GET /v2/_catalog HTTP/1.1\r\n" + HOST + b"\r\n"
        response = await asyncio.wait_for(wire.response_to(request, seconds=30), 20)

    assert response.endswith(b"3\r\nabc\r\n")


async def test_unread_end_of_a_response_is_dropped(tmp_path: Path) -> None:
    limits = Limits(idle_seconds=0.5, keepalive_seconds=0.2, connections=1)
    async with between(tmp_path, limits) as wire:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0)
            await loop.sock_connect(client, ("127.0.0.1", wire.port))
            for _ in range(100):  # 40 kB each, until the kernel takes no more of them
                await loop.sock_sendall(
                    client, b"GET /_autoregistry/ HTTP/1.1\r\n" + HOST + b"\r\n"
                )
            async with asyncio.timeout(15):
                request = b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
                while not (await wire.response_to(request, 1)).startswith(b"HTTP/1.1 200"):
                    pass


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Manifests:
    """A registry of manifests by digest, which counts requests and how many of them came at once."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.asked = self.now = self.most = 0

    def add(self, content: object) -> str:
        text = json.dumps(content).encode()
        self.contents[_digest(text)] = text
        return _digest(text)

    async def script(self, exchange: Exchange) -> None:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        content = self.contents.get(exchange.request_line.split()[1].decode().rpartition("/")[2])
        status = b"404 Not Found" if content is None else b"200 OK"
        length = b"Content-Length: %d\r\n\r\n" % len(content or b"")
        exchange.writer.write(b"HTTP/1.1 " + status + b"\r\n" + length + (content or b""))
        await exchange.writer.drain()


async def _configs(registry: Manifests, digest: str, times: int = 1) -> list[frozenset[str]]:
    async with RawBackend(registry.script).serving() as behind:
        backend = Backend(behind.url, lambda *_: None, Limits().idle_seconds)
        try:
            return [await backend.configs("app", digest) for _ in range(times)]
        finally:
            await backend.close()


async def test_children_of_an_index_are_read_once_and_few_at_a_time() -> None:
    registry = Manifests()
    children = [registry.add({"config": {"digest": f"sha256:{n}"}}) for n in range(40)]
    index = registry.add({"manifests": [{"digest": child} for child in children * 3]})

    first, again = await _configs(registry, index, times=2)

    assert first == again == {f"sha256:{n}" for n in range(40)}
    assert registry.asked == 41
    assert registry.most <= backends.CONCURRENT_READS


async def test_index_with_too_many_manifests_is_not_followed() -> None:
    registry = Manifests()
    many = [{"digest": f"sha256:{n}"} for n in range(backends.MAX_MANIFESTS)]

    assert await _configs(registry, registry.add({"manifests": many})) == [frozenset()]
    assert registry.asked == 1


async def test_indexes_of_indexes_are_each_read_once_and_within_a_limit() -> None:
    registry = Manifests()
    level = [registry.add({"config": {"digest": f"sha256:{n}"}}) for n in range(16)]
    for depth in range(5):
        level = [
            registry.add({"n": n, "depth": depth, "manifests": [{"digest": d} for d in level]})
            for n in range(16)
        ]

    await _configs(registry, level[0])

    assert registry.asked <= backends.MAX_MANIFESTS


async def test_missing_child_of_an_index_is_requested_again() -> None:
    """It may have arrived in the meantime. Only a complete result is cached, because it never changes."""
    registry = Manifests()
    present = registry.add({"config": {"digest": "sha256:a"}})
    late = json.dumps({"config": {"digest": "sha256:b"}}).encode()
    index = registry.add({"manifests": [{"digest": present}, {"digest": _digest(late)}]})

    async with RawBackend(registry.script).serving() as behind:
        backend = Backend(behind.url, lambda *_: None, Limits().idle_seconds)
        first = await backend.configs("app", index)
        registry.contents[_digest(late)] = late
        second = await backend.configs("app", index)
        await backend.close()

    assert first == {"sha256:a"}
    assert second == {"sha256:a", "sha256:b"}


async def test_client_that_disconnects_closes_the_registrys_response() -> None:
    response = Mock(status=404, close=AsyncMock())
    docker = Mock(tags_with=AsyncMock(side_effect=asyncio.CancelledError))
    registry = Mock(read=AsyncMock(return_value=response))
    pulls = PullHandler(Mock(docker=docker, backend=registry))
    request = raw_request(
        "GET", "/v2/app/manifests/x", [(b"Accept", ", ".join(MANIFEST_TYPES).encode())]
    )

    with pytest.raises(asyncio.CancelledError):
        await pulls.reply(request, Manifest("app", Digest("sha256:" + "a" * 64)))

    response.close.assert_awaited_once()
