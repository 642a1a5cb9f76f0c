"""The proxy looks like the registry behind it: the bytes out are the bytes in."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.wire import Exchange, RawClient
from tests.helpers.proxy_wire import Wire, between

HOST = b"Host: localhost:5000\r\n"
CLOSE = b"Connection: close\r\n\r\n"
MIB = 1 << 20


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with between(tmp_path) as wire:
        yield wire


def _fields(head: bytes) -> list[bytes]:
    return [line for line in head.split(b"\r\n")[1:] if line]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/v2/", id="base"),
        pytest.param(b"/v2/a%2Fb/tags/list", id="encoded slash"),
        pytest.param(b"/v2/a//b/tags/list", id="double slash"),
        pytest.param(b"/v2/a/../b/tags/list", id="dots"),
        pytest.param(b"/v2/a/%2e%2e/b/tags/list", id="encoded dots"),
        pytest.param(b"/v2/a/blobs/sha256%3Aabc?x=1&x=2&y=%20+", id="query"),
        pytest.param(b"/v2/a/tags/list?", id="empty query"),
        pytest.param(b"/v2/a/tags/list?n=1;m=%zz", id="odd query"),
        pytest.param(b"/v2/%41pp/tags/list", id="needless encoding"),
        pytest.param(b"/v2/a/tags/list?x#y", id="fragment"),
        pytest.param(b"/v2/a%0Ab/tags/list", id="encoded line feed"),
    ],
)
async def test_target_arrives_as_it_was_sent(wire: Wire, target: bytes) -> None:
    await wire.response_to(b"GET " + target + b" HTTP/1.1\r\n" + HOST + CLOSE)

    assert [b"GET " + target + b" HTTP/1.1"] == [e.request_line for e in wire.backend.seen]


async def test_request_headers_arrive_in_order_with_repeated_ones_and_none_added(
    wire: Wire,
) -> None:
    fields = [
        b"X-One: 1",
        b"Host: localhost:5000",
        b"Accept: application/b",
        b"x-two: b",
        b"Accept: application/a",
        b"Range: bytes=0-1,4-5",
        b'If-None-Match: "sha256:x"',
        b"X-Two: a",
        b"If-None-Match: *",
        b"Authorization: Basic eDp5",
        b"Cookie: a=b",
        b"ACCEPT: application/c",
        b"X-Empty: ",
        b"X-One: 0",
    ]
    sent = b"".join(f + b"\r\n" for f in fields)
    hop = b"Connection: close, Host, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\n"

    await wire.response_to(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + sent + hop)

    host, *others = _fields(wire.backend.seen[0].head)
    assert host == b"Host: localhost:5000"
    # Each name in its first spelling.
    expected = [f.replace(b"ACCEPT", b"Accept").replace(b"X-Two", b"x-two") for f in fields]
    assert [f for f in expected if f != host] == others


async def test_response_arrives_as_it_was_sent_with_nothing_added(wire: Wire) -> None:
    wire.backend.answer = (
        b"HTTP/1.1 206 Some Of It\r\nLink: <b>\r\nX-B: 1\r\nLink: <a>\r\nx-b: 0\r\nWWW-Authenticate: Basic\r\n"
        b"Location: http://localhost:5000/v2/a/blobs/uploads/1?_state=x%3D\r\nContent-Length: 3\r\n"
        b"Content-Range: bytes 0-2/9\r\nContent-Encoding: gzip\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nabc"
    )

    response = await wire.response_to(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + CLOSE)

    assert response == (
        b"HTTP/1.1 206 Some Of It\r\nLink: <b>\r\nX-B: 1\r\nLink: <a>\r\nx-b: 0\r\nWWW-Authenticate: Basic\r\n"
        b"Location: http://localhost:5000/v2/a/blobs/uploads/1?_state=x%3D\r\nContent-Length: 3\r\n"
        b"Content-Range: bytes 0-2/9\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nabc"
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(b"200 OK\r\nContent-Length: 12345", b"Content-Length: 12345", id="HEAD 200"),
        pytest.param(b"404 Not Found\r\nContent-Length: 99", b"Content-Length: 99", id="HEAD 404"),
        pytest.param(b"304 Not Modified\r\nEtag: x", b"Etag: x", id="304"),
        pytest.param(
            b"307 Temporary Redirect\r\nContent-Length: 0", b"Content-Length: 0", id="307"
        ),
    ],
)
async def test_response_to_head_keeps_the_length_of_the_content(
    wire: Wire, status: bytes, expected: bytes
) -> None:
    wire.backend.answer = b"HTTP/1.1 " + status + b"\r\n\r\n"

    response = await wire.response_to(b"HEAD /v2/a/blobs/x HTTP/1.1\r\n" + HOST + CLOSE)

    assert response == b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n"
    assert expected in response


async def test_response_of_unknown_length_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0(
    wire: Wire,
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    wire.backend.answer = head + b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"

    new = await wire.response_to(b"GET /v2/a HTTP/1.1\r\n" + HOST + CLOSE)
    old = await wire.response_to(b"GET /v2/a HTTP/1.0\r\n" + HOST + b"\r\n")

    assert new.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in new
    assert old.endswith(b"\r\n\r\nabc")
    assert b"Transfer-Encoding" not in old


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        pytest.param(b"Content-Length: 5", b"hello", id="sized"),
        pytest.param(b"Content-Length: 0", b"", id="empty"),
        pytest.param(
            b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", id="chunked"
        ),
        pytest.param(
            b"Transfer-Encoding: chunked", b"5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", id="trailers"
        ),
    ],
)
async def test_body_arrives_framed_as_it_was_sent(wire: Wire, framing: bytes, body: bytes) -> None:
    bodies = []

    async def script(exchange: Exchange) -> None:
        bodies.append(await exchange.body())
        exchange.writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    wire.backend.script = script
    head = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + framing + b"\r\n"
    response = await wire.response_to(head + CLOSE + body)

    assert response.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert bodies == [b"" if framing.endswith(b" 0") else b"hello"]
    assert framing in wire.backend.seen[0].head
    assert b"X-T" not in wire.backend.seen[0].head


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("body", [gzip.compress(b"A" * 300), b"not gzip"], ids=["gzip", "not"])
async def test_encoded_body_is_not_decoded(wire: Wire, body: bytes, is_chunked: bool) -> None:
    bodies = []

    async def script(exchange: Exchange) -> None:
        bodies.append(await exchange.body())
        exchange.writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    wire.backend.script = script
    length = b"%x" % len(body) if is_chunked else b"%d" % len(body)
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: " + length
    framed = length + b"\r\n" + body + b"\r\n0\r\n\r\n" if is_chunked else body
    head = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + framing + b"\r\n"
    response = await wire.response_to(head + b"Content-Encoding: gzip\r\n" + CLOSE + framed)

    assert response.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert bodies == [body]
    assert b"Content-Encoding: gzip" in wire.backend.seen[0].head


async def test_offer_of_another_protocol_is_declined(wire: Wire) -> None:
    """As `curl --http2` and Java's client offer it. The client sends later requests on another connection."""
    offer = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    )
    body = b"Content-Length: 5\r\n\r\nhello"
    response = await wire.response_to(
        b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + offer + body
    )

    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in response
    (seen,) = wire.backend.seen
    assert b"pgrade" not in seen.head
    assert b"Content-Length: 5" in seen.head


async def test_headers_with_non_ascii_text_arrive_as_they_were_sent(wire: Wire) -> None:
    wire.backend.answer = "HTTP/1.1 200 OK\r\nX-Back: ü\r\nContent-Length: 0\r\n\r\n".encode()
    response = await wire.response_to(
        b"GET /v2/ HTTP/1.1\r\n" + HOST + "X-Forth: é\r\n".encode() + CLOSE
    )

    assert "\r\nX-Back: ü\r\n".encode() in response
    assert "\r\nX-Forth: é\r\n".encode() in wire.backend.seen[0].head


async def test_long_location_of_a_redirect_arrives(wire: Wire) -> None:
    location = b"Location: /v2/" + b"a" * 15_000
    wire.backend.answer = (
        b"HTTP/1.1 307 Elsewhere\r\n" + location + b"\r\nContent-Length: 0\r\n\r\n"
    )

    assert location in await wire.response_to(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + CLOSE)


async def test_client_that_waits_for_100_is_told_to_continue(wire: Wire) -> None:
    async with wire.client() as client:
        await client.send(
            b"PUT /v2/a/blobs/uploads/1 HTTP/1.1\r\n"
            + HOST
            + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("framing", [b"Content-Length: 67108864", b"Transfer-Encoding: chunked"])
async def test_error_before_the_end_of_an_upload_reaches_the_client(
    wire: Wire, framing: bytes
) -> None:
    """As Go's server does: it responds, reads no more, closes its half, and a while later the rest."""
    error = b'{"errors":[{"code":"DENIED"}]}'
    answered = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.reader.read(1000)
        exchange.writer.write(
            b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (len(error), error)
        )
        exchange.writer.write_eof()
        await answered.wait()
        exchange.writer.close()

    wire.backend.script = script
    async with wire.client() as client:
        await client.send(
            b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + framing + b"\r\n\r\n"
        )
        block = b"x" * 65536
        frame = b"10000\r\n" + block + b"\r\n" if b"chunked" in framing else block

        async def upload() -> None:
            for _ in range(64):
                await client.send(frame)

        sending = asyncio.create_task(upload())
        head = await client.head()
        body = await client.exactly(len(error))
        answered.set()
        sending.cancel()

    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert error == body


@pytest.mark.parametrize("framing", [b"Content-Length: 67108864", b"Transfer-Encoding: chunked"])
async def test_error_reaches_the_client_when_the_backend_resets_at_once(
    wire: Wire, framing: bytes
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.reader.read(1000)
        exchange.writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        exchange.writer.transport.abort()  # unread bytes are left: the system sends a reset

    wire.backend.script = script
    head = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + framing + b"\r\n\r\n"
    block = b"10000\r\n" + b"x" * 65536 + b"\r\n" if b"chunked" in framing else b"x" * 65536
    for _ in range(20):
        async with wire.client() as client:
            sending = asyncio.create_task(client.send(head + block * 200))
            assert (await client.head()).startswith(b"HTTP/1.1 413 Too Large\r\n")
            assert await client.exactly(5) == b"large"
            sending.cancel()


async def test_slow_client_slows_the_backend_down_without_filling_memory(wire: Wire) -> None:
    sent = 0
    standing = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * MIB))
        with suppress(TimeoutError):
            for _ in range(256 * 4):
                exchange.writer.write(b"x" * (MIB // 4))
                async with asyncio.timeout(1):
                    await exchange.writer.drain()
                sent += MIB // 4
        standing.set()

    wire.backend.script = script
    async with wire.client() as client:
        await client.send(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.head()
        await asyncio.wait_for(standing.wait(), 30)

    assert sent < 32 * MIB


async def test_slow_registry_slows_the_client_down_without_filling_memory(wire: Wire) -> None:
    """When the registry continues, all of the upload arrives."""
    size, block = 128 * MIB, os.urandom(MIB // 4)
    may_continue = asyncio.Event()
    taken, sent, arrived = 0, hashlib.sha256(), hashlib.sha256()

    async def script(exchange: Exchange) -> None:
        await may_continue.wait()
        left = size
        while left and (piece := await exchange.reader.read(left)):
            arrived.update(piece)
            left -= len(piece)
        exchange.writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async def upload(client: RawClient) -> None:
        nonlocal taken
        head = b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST
        await client.send(head + b"Content-Length: %d\r\n\r\n" % size)
        while taken < size:
            piece = b"%016d" % taken + block[16:]
            sent.update(piece)
            await client.send(piece)
            taken += len(piece)

    wire.backend.script = script
    async with wire.client() as client:
        sending, before = asyncio.create_task(upload(client)), -1
        while before < taken:
            before = taken
            await asyncio.wait({sending}, timeout=1)
        may_continue.set()
        await sending
        response = await client.head()

    assert before < 32 * MIB
    assert response.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert arrived.digest() == sent.digest()


async def test_broken_response_stays_broken(wire: Wire) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await exchange.writer.drain()
        exchange.writer.transport.abort()

    wire.backend.script = script
    response = await wire.response_to(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + CLOSE)

    assert b"0\r\n\r\n" not in response


async def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    async def script(exchange: Exchange) -> None:
        name = exchange.request_line.split()[1]
        exchange.writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name)
        )

    wire.backend.script = script
    one = b"GET /v2/%d HTTP/1.1\r\n" + HOST
    requests = b"".join(one % i + b"\r\n" for i in range(9)) + one % 9 + CLOSE

    response = await wire.response_to(requests)

    assert [response.find(b"/v2/%d" % i) for i in range(10)] == sorted(
        response.find(b"/v2/%d" % i) for i in range(10)
    )
    assert response.count(b"200 OK") == 10


async def test_request_is_sent_again_if_the_backend_has_closed_an_idle_connection(
    wire: Wire,
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()
        exchange.writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        await exchange.writer.drain()
        exchange.writer.close()

    wire.backend.script = script
    post = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n"

    responses = [await wire.response_to(post + CLOSE) for _ in range(20)]

    assert [a.split(b"\r\n")[0] for a in responses] == [b"HTTP/1.1 202 Accepted"] * 20
