"""Every request gets a clean 4xx or the backend's response, and no request is smuggled past the proxy."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from autoregistry.events import PullSeen
from tests.fakes.wire import RawBackend
from tests.helpers import hostile
from tests.helpers.proxy_wire import between

# `make fuzz` sets the number; a few seconds in `make test` are enough for regressions.
EXAMPLES = int(os.environ.get("AUTOREGISTRY_FUZZ_EXAMPLES", "60"))
HOST = b"Host: localhost:5000\r\n"
TAGS = b"GET /v2/a/tags/list HTTP/1.1\r\n"
POST = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n"


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
@given(hostile.requests)
def test_no_request_does_harm(request_text: bytes) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as state:
            backend = RawBackend(hostile.script)
            async with between(Path(state), backend=backend) as wire:
                await hostile.attack(wire, request_text)
                await hostile.assert_next_client_is_served(wire)

    asyncio.run(run())


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param(b"Content-Length: 5\r\nContent-Length: 6\r\n", id="two lengths"),
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="both"),
        pytest.param(
            b"Content-Length: 5\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", id="upgrade"
        ),
        pytest.param(b"Transfer-Encoding : chunked\r\n", id="space before the colon"),
        pytest.param(b"Transfer-Encoding: xchunked\r\n", id="unknown coding"),
        pytest.param(b"Connection: Content-Length\r\nContent-Length: 5\r\n", id="length dropped"),
        pytest.param(b"Host: evil.example\r\n", id="two hosts"),
    ],
)
async def test_no_request_is_smuggled(tmp_path: Path, framing: bytes) -> None:
    backend = RawBackend(hostile.script)
    async with between(tmp_path, backend=backend) as wire:
        head = POST + HOST + framing + b"\r\n"
        await hostile.attack(wire, head + b"hello" + hostile.smuggled)
        await hostile.assert_next_client_is_served(wire)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(TAGS + HOST + b"X: a\r\n b\r\n", id="folded line"),
        pytest.param(TAGS + HOST + b"X: a\r\n\tb\r\n", id="folded line, tab"),
        pytest.param(TAGS + b"Host: localhost:5000\r\n .evil.example\r\n", id="folded Host"),
        pytest.param(TAGS + b"Host:\r\n localhost:5000\r\n", id="Host in the folded line"),
        pytest.param(TAGS + b" X: a\r\n" + HOST, id="folded request line"),
        pytest.param(TAGS + HOST + b"X: a\x00b\r\n", id="NUL in a value"),
        pytest.param(b"GET /v2/a\x00/tags/list HTTP/1.1\r\n" + HOST, id="NUL in the target"),
        pytest.param(TAGS + HOST + b"X: a\rb\r\n", id="CR in a value"),
        pytest.param(TAGS + HOST + b"X: a\rHost: evil.example\r\n", id="CR for a line's end"),
        pytest.param(TAGS + b"Host: localhost:5000\r.evil.example\r\n", id="CR in Host"),
        pytest.param(b"GET /v2/a\r/tags/list HTTP/1.1\r\n" + HOST, id="CR in the target"),
        pytest.param(
            POST + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n", id="two equal lengths"
        ),
        pytest.param(POST + HOST + b"Content-Length: 5, 5\r\n", id="a list of equal lengths"),
    ],
)
async def test_request_that_another_parser_may_read_differently_is_refused(
    tmp_path: Path, head: bytes
) -> None:
    """RFC 9112 lets a server correct most of these; the registry might correct them differently."""
    async with between(tmp_path, backend=RawBackend(hostile.script)) as wire:
        response = await wire.response_to(head + b"\r\nhello" + hostile.smuggled)

        assert response.startswith(b"HTTP/1.0 400 not a request in HTTP/1.1: ")
        assert b"\r\nAutoregistry: unreadable-request\r\n" in response
        assert response.count(b"Autoregistry: ") == 1
        assert wire.backend.seen == []
        await hostile.assert_next_client_is_served(wire)


async def test_tls_hello_is_answered_in_http(tmp_path: Path) -> None:
    """Otherwise Docker's containerd store fails instead of trying http."""
    async with between(tmp_path) as wire:
        response = await wire.response_to(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300
        )

    assert response.startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param(b"localhost:5000", b"200", id="name"),
        pytest.param(b"LOCALHOST", b"200", id="case"),
        pytest.param(b"127.0.0.1:5000", b"200", id="address"),
        pytest.param(b"[::1]:5000", b"200", id="IPv6"),
        pytest.param(b"host.k3d.internal:5000", b"200", id="k3d"),
        pytest.param(b"evil.example", b"421", id="foreign"),
        pytest.param(b"0.0.0.0:5000", b"421", id="this machine, for browsers"),
        pytest.param(b"[::]:5000", b"421", id="the same in IPv6"),
        pytest.param(b"[::ffff:0.0.0.0]", b"421", id="the same, mapped"),
        pytest.param(b"localhost.evil.example:5000", b"421", id="prefix"),
        pytest.param(b"evil.example@localhost", b"421", id="user"),
        pytest.param(b"", b"421", id="empty"),
    ],
)
@pytest.mark.parametrize("path", [b"/v2/", b"/_autoregistry/health"])
async def test_only_our_host_names_are_served(
    tmp_path: Path, host: bytes, status: bytes, path: bytes
) -> None:
    async with between(tmp_path) as wire:
        response = await wire.response_to(
            b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        )

    assert response.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param(b"registry.internal:5000", b"200", id="allowed"),
        pytest.param(b"REGISTRY.internal", b"200", id="case"),
        pytest.param(b"build.test:80", b"200", id="another one"),
        pytest.param(b"localhost:5000", b"200", id="ours as well"),
        pytest.param(b"registry.internal.evil.example", b"421", id="prefix"),
        pytest.param(b"evil.registry.internal", b"421", id="suffix"),
    ],
)
async def test_allowed_host_names_are_served(tmp_path: Path, host: bytes, status: bytes) -> None:
    async with between(tmp_path, allow_host=("Registry.Internal", "build.test:5000")) as wire:
        response = await wire.response_to(
            b"GET /v2/ HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        )

        assert response.startswith(b"HTTP/1.1 " + status)
        assert len(wire.backend.seen) == (status == b"200")


_FOREIGN = [
    pytest.param(b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", id="no-cors"),
    pytest.param(b"Sec-Fetch-Site: same-site\r\n", id="another port"),
    pytest.param(b"Origin: http://evil.example\r\n", id="origin"),
    pytest.param(b"Origin: null\r\n", id="no origin"),
]


@pytest.mark.parametrize("headers", _FOREIGN)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"GET /v2/app/manifests/dev", id="pull"),
        pytest.param(b"GET /_autoregistry/status?image=a:b", id="status"),
        pytest.param(b"GET /_autoregistry/events", id="events"),
        pytest.param(b"POST /_autoregistry/push", id="push"),
        pytest.param(b"GET /_autoregistry/", id="the page"),
    ],
)
async def test_page_of_another_site_makes_the_proxy_do_nothing(
    tmp_path: Path, line: bytes, headers: bytes
) -> None:
    """Our own endpoints were served without this check (review 19)."""
    async with between(tmp_path) as wire:
        response = await wire.response_to(
            line + b" HTTP/1.1\r\n" + HOST + headers + b"Connection: close\r\n\r\n"
        )

        assert response.startswith(b"HTTP/1.1 421 not for pages of other sites\r\n")
        assert wire.docker.inspected == []
        assert wire.backend.seen == []


@pytest.mark.parametrize(
    ("target", "status"),
    [
        pytest.param(b"/", b"302", id="root"),
        pytest.param(b"/_autoregistry", b"302", id="prefix"),
        pytest.param(b"/_autoregistry/?from=tilt", b"200", id="page"),
        pytest.param(b"/_autoregistry/status", b"421", id="status"),
    ],
)
async def test_link_of_another_site_leads_to_the_page_only(
    tmp_path: Path, target: bytes, status: bytes
) -> None:
    link = b"Accept: text/html\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n"
    async with between(tmp_path) as wire:
        response = await wire.response_to(
            b"GET " + target + b" HTTP/1.1\r\n" + HOST + link + b"Connection: close\r\n\r\n"
        )

    assert response.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"Sec-Fetch-Site: same-origin\r\n", id="script"),
        pytest.param(b"Origin: http://localhost:5000\r\n", id="origin"),
        pytest.param(b"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", id="typed"),
    ],
)
async def test_our_own_page_is_served(tmp_path: Path, headers: bytes) -> None:
    async with between(tmp_path) as wire:
        request = b"GET /_autoregistry/status HTTP/1.1\r\n" + HOST + headers
        response = await wire.response_to(request + b"Connection: close\r\n\r\n")

    assert response.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        pytest.param(b"crane\xc2\x9b2J", "crane", id="C1"),
        pytest.param(b"crane/\x1b[31m1", "crane/", id="C0"),
        pytest.param("crane/\u202e1".encode(), "crane/", id="bidi"),
        pytest.param(b"crane/\xff1 go", "crane/", id="no UTF-8"),
        pytest.param(b"containerd/2.3.7 go", "containerd/2.3.7", id="usual"),
        pytest.param("\u202e".encode(), "unknown", id="nothing else"),
    ],
)
async def test_name_of_a_client_has_no_control_characters(
    tmp_path: Path, agent: bytes, expected: str
) -> None:
    """They reached the terminal of `watch` and of `logs` (review 20)."""
    head = b"HEAD /v2/app/manifests/dev HTTP/1.1\r\n" + HOST + b"User-Agent: " + agent
    async with between(tmp_path) as wire:
        response = await wire.response_to(head + b"\r\nConnection: close\r\n\r\n")
        clients = [event.client for event in wire.events if isinstance(event, PullSeen)]

        assert clients == [expected] or (clients == [] and response.startswith(b"HTTP/1.0 400"))


async def test_image_of_another_registry_is_not_touched(tmp_path: Path) -> None:
    async with between(tmp_path) as wire:
        response = await wire.response_to(
            b"GET /v2/library/nginx/manifests/latest?ns=docker.io HTTP/1.1\r\n"
            + HOST
            + b"Connection: close\r\n\r\n"
        )

        assert response.startswith(b"HTTP/1.1 404 ")
        assert wire.docker.inspected == []
        assert wire.backend.seen == []
