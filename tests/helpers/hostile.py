"""Hostile requests, and the rules that hold for each of them."""

from __future__ import annotations

import re

from hypothesis import strategies as st

from autoregistry.events import PushStarted
from tests.fakes.wire import Exchange
from tests.helpers.proxy_wire import Wire

METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"]
_NAMES = ["app", "shop/api", "..", "%2e%2e", "a%2Fb", "%00", "%0d%0aX:1", "a" * 300, "APP", "ä", ""]
_REFERENCES = ["dev", "latest", "sha256:" + "a" * 64, "sha256%3A" + "b" * 64, "-x", "a" * 129, "%"]
_MARKER = b"SMUGGLED"
# The beginning of a response. Bodies are empty, or one line with its end.
_RESPONSE = re.compile(rb"(?m)^(?=HTTP/\d\.\d \d{3} )")
_BY_BACKEND = b"X-Backend: fake"
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")

odd_bytes = st.binary(max_size=30).map(lambda b: b.replace(b"\n", b""))
targets = st.one_of(
    st.builds(
        "/v2/{}/{}/{}{}".format,
        st.sampled_from(_NAMES),
        st.sampled_from(["manifests", "blobs", "blobs/uploads", "tags", "manifest%73"]),
        st.sampled_from(_REFERENCES),
        st.sampled_from(["", "?ns=evil.example", "?ns=localhost:5000", "?ns=%", "?" + "&" * 200]),
    ),
    st.text(max_size=40).map(lambda text: "/v2/" + text),
    st.sampled_from(["*", "/", "//v2/", "http://evil.example/v2/", "/v2", "/_autoregistry/../v2/"]),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
framings = st.sampled_from(
    [
        b"",
        b"Content-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n",
        b"Connection: Content-Length\r\nContent-Length: 5\r\n",
        b"Connection: Transfer-Encoding, Host\r\nTransfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\nContent-Length: 5\r\n",
        b"Expect: 200-maybe\r\n",
    ]
)
fields = st.one_of(
    st.sampled_from(
        [
            b"X-Folded: a\r\n b\r\n",
            b"X-Nul: \x00\r\n",
            b"No colon\r\n",
            b": no name\r\n",
            b"X-Long: " + b"a" * 20_000 + b"\r\n",
            b"Host: evil.example\r\n",
            b"\x00: y\r\n",
            b"X-Bare: a\rb\r\n",
            b"X-High: \xff\xfe\r\n",
        ]
    ),
    odd_bytes.map(lambda b: b"X-Odd: " + b + b"\r\n"),
)
smuggled = b"GET /v2/" + _MARKER + b"/tags/list HTTP/1.1\r\nHost: localhost:5000\r\n\r\n"
bodies = st.sampled_from(
    [b"", b"hello", smuggled, b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n" + smuggled, b"5;\r\r\nhe"]
)
hosts = st.sampled_from(
    [b"Host: localhost:5000\r\n", b"Host: evil.example\r\n", b"", b"Host: [::1\r\n", b"Host:\r\n"]
)
requests = st.one_of(
    st.builds(
        lambda method, target, version, host, framing, extra, body: b"".join(
            [method.encode(), b" ", target, version, host, framing, *extra, b"\r\n", body]
        ),
        st.sampled_from(METHODS),
        targets,
        st.sampled_from(
            [b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/0.9\r\n", b" HTTP/2\r\n", b"\n"]
        ),
        hosts,
        framings,
        st.lists(fields, max_size=2),
        bodies,
    ),
    st.binary(max_size=200),
    st.just(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300),
    st.just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
)


async def script(exchange: Exchange) -> None:
    """A backend that reads bodies as strictly as RFC 9112 wants, and answers 404."""
    await exchange.body()
    response = b"HTTP/1.1 404 Not Found\r\n" + _BY_BACKEND + b"\r\nContent-Length: 0\r\n\r\n"
    exchange.writer.write(response)
    await exchange.writer.drain()


def _has_ended(request: bytes) -> bool:
    """Return True if the request is complete; bytes after its end do not matter."""
    head, end, body = request.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return b"\r\n0\r\n\r\n" in b"\r\n" + body
    lengths = [int(length) for length in _LENGTH.findall(head)]
    return bool(end) and len(body) >= max(lengths, default=0)


def _responses(text: bytes) -> list[tuple[int, bytes]]:
    """Return status and text of each response, without `100 Continue`."""
    before, *responses = _RESPONSE.split(text)
    assert before == b"", text
    return [(int(a[9:12]), a) for a in responses if a[9:12] != b"100"]


async def _responses_to(wire: Wire, request: bytes) -> list[tuple[int, bytes]]:
    """Return all responses. Only an incomplete request may be left without one."""
    async with wire.client() as client:
        await client.send(request)
        text = await client.everything(0.25)
        if _has_ended(request) and not _responses(text):
            text += await client.everything()
            assert _responses(text), (request, text)
    return _responses(text)


async def attack(wire: Wire, request: bytes) -> None:
    """Send a request and check that no rule is broken."""
    wire.backend.seen.clear()
    wire.events.clear()
    responses = await _responses_to(wire, request)

    forwarded = [text for status, text in responses if status == 404 and _BY_BACKEND in text]
    for status, text in responses:
        is_ours = 400 <= status < 500 and b"\r\nAutoregistry: " in text
        assert is_ours or text in forwarded, (request, text)
        assert b"Traceback" not in text, (request, text)
    assert not wire.docker.pushed, request
    assert not any(isinstance(e, PushStarted) for e in wire.events), request
    ours = ("localhost:5000/", "127.0.0.1:5000/")
    assert all(reference.startswith(ours) for reference in wire.docker.inspected), request
    own_host = [f"127.0.0.1:{wire.backend.port}".encode()]
    passed = [e for e in wire.backend.seen if e.values(b"host") != own_host]
    for exchange in passed:
        lengths = exchange.values(b"content-length")
        assert len(lengths) <= 1, exchange.head
        assert not (lengths and exchange.values(b"transfer-encoding")), exchange.head
        assert len(exchange.values(b"host")) == 1, exchange.head
        assert exchange.values(b"host") != [b"evil.example"], exchange.head
        assert b"\x00" not in exchange.head, exchange.head
    # The backend got exactly the requests that the proxy parsed on this connection.
    assert len(forwarded) <= len(passed) <= max(len(responses), 1), (request, passed)


async def assert_next_client_is_served(wire: Wire) -> None:
    """Check that the next client is served as usual."""
    wire.backend.seen.clear()
    response = await wire.response_to(
        b"GET /v2/ HTTP/1.1\r\nHost: localhost:5000\r\nConnection: close\r\n\r\n"
    )
    assert response.startswith(b"HTTP/1.1 404 Not Found")
    assert [e.request_line for e in wire.backend.seen] == [b"GET /v2/ HTTP/1.1"]
