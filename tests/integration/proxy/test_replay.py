"""The proxy gives recorded requests of real clients the same responses as the registry behind it, to the byte.

`python -m dev.record` recorded the requests. Not compared: `Date`, hop-by-hop headers, the names that a registry
invents for an upload, and our own header.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from autoregistry.names import Blob, Manifest, parse_target
from autoregistry.proxy import app
from autoregistry.proxy.backend.transport import HOP_BY_HOP
from autoregistry.settings import Address, Settings
from dev import lab
from dev.record import CORPUS, UPLOAD
from tests.fakes.docker import NONCE, FakeDocker
from tests.fakes.nodes import FakeNodes
from tests.fakes.wire import RawClient, connected

pytestmark = pytest.mark.engine

Response = tuple[bytes, list[bytes], bytes]
NOT_COMPARED = {*HOP_BY_HOP, b"date", b"autoregistry"}


@pytest.fixture(params=["2", "3"])
def registries(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[lab.Registry, lab.Registry]]:
    """Two empty registries: one for direct requests, one behind the proxy."""
    try:
        one, two = (
            lab.start_registry(tmp_path / name, version=request.param) for name in ("one", "two")
        )
    except lab.UnavailableError as exc:
        pytest.skip(str(exc))
    yield one, two
    for registry in (one, two):
        registry.stop()


@asynccontextmanager
async def _proxy(registry: lab.Registry, state: Path) -> AsyncIterator[int]:
    docker = FakeDocker()
    settings = Settings(
        listen=(Address("127.0.0.1", 0),),
        backend=registry.url,
        state=state,
        watch=False,
        refresh=False,
    )
    parts = app.Docker(docker, docker.follow, FakeNodes(), NONCE)
    async with docker.followed(), app.running(settings, parts, lambda _: None) as proxy:
        yield proxy.server.addresses[0][1]


async def _replay(port: int, requests: list[dict[str, Any]]) -> list[Response]:
    invented: dict[str, str] = {}
    responses = []
    async with connected(port) as client:
        for number, request in enumerate(requests):
            target = re.sub(r"<\d+\.\d>", lambda hit: invented[hit[0]], request["target"])
            headers = [h for h in request["headers"] if not h.lower().startswith("connection:")]
            head = "\r\n".join((f"{request['method']} {target} HTTP/1.1", *headers, "\r\n"))
            body = base64.b64decode(request["body"])
            if "transfer-encoding: chunked" in head.lower():
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
            await client.send(head.encode("latin-1") + body)
            status, fields, content = await _response(client, request["method"])
            location = next((f for f in fields if f.lower().startswith(b"location:")), b"")
            for i, text in enumerate(UPLOAD.findall(location.decode())):
                invented[f"<{number}.{i}>"] = text
            responses.append((status, [_plain(f) for f in fields], content))
    return responses


async def _response(client: RawClient, method: str) -> Response:
    status, *lines = (await client.head()).rstrip(b"\r\n").split(b"\r\n")
    values = {k.lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines)}
    body = b""
    if method != "HEAD" and b"chunked" in values.get(b"transfer-encoding", b""):
        while size := int(await client.reader.readline(), 16):
            body += await client.exactly(size)
            await client.exactly(2)
        await client.exactly(2)
    elif method != "HEAD":
        body = await client.exactly(int(values.get(b"content-length", b"0")))
    return status, [f for f in lines if f.partition(b":")[0].lower() not in NOT_COMPARED], body


def _plain(field: bytes) -> bytes:
    return UPLOAD.sub("...", field.decode("latin-1")).encode("latin-1")


def _requests(tape: Path) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = json.loads(tape.read_text())
    return requests


@pytest.mark.parametrize("tape", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_recording_of_each_client_has_a_push_and_a_pull(tape: Path) -> None:
    kinds = {
        (request["method"], type(parse_target(request["target"])))
        for request in _requests(tape)
        if tape.stem.partition("-")[0] in " ".join(request["headers"]).lower()
    }

    assert {("PUT", Manifest), ("GET", Manifest), ("GET", Blob)} <= kinds


@pytest.mark.parametrize("tape", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
async def test_proxy_responds_like_the_registry_itself(
    tape: Path, registries: tuple[lab.Registry, lab.Registry], tmp_path: Path
) -> None:
    requests = _requests(tape)
    alone, behind = registries

    directly = await _replay(alone.port, requests)
    async with _proxy(behind, tmp_path / "state") as port:
        proxied = await _replay(port, requests)

    assert len(directly) == len(requests)
    assert [b"HTTP/1.1 5" in response[0] for response in directly] == [False] * len(requests)
    for request, expected, actual in zip(requests, directly, proxied, strict=True):
        assert expected == actual, f"{request['method']} {request['target']}"
