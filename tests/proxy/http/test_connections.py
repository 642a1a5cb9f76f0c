"""Limits on connections hold, and each response to an exceeded limit names it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from autoregistry.events import Notice
from autoregistry.settings import Limits
from tests.fakes.wire import Exchange, RawBackend, connected
from tests.helpers.proxy_wire import Wire, between

HOST = b"Host: localhost:5000\r\n"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET /v2/ HT", id="half a request line"),
        pytest.param(b"GET /v2/ HTTP/1.1\r\n" + HOST + b"X: y\r\n", id="no end of the head"),
    ],
)
async def test_missing_head_ends_in_408(tmp_path: Path, start: bytes) -> None:
    async with (
        between(tmp_path, Limits(head_seconds=0.3)) as wire,
        wire.client() as client,
    ):
        await client.send(start)
        last = (await client.everything()).rpartition(b"HTTP/1.1 ")[2]

    assert last.startswith(b"408 no request within 0.3 s\r\n")
    assert b"\r\nAutoregistry: no-request\r\n" in last


async def test_trickled_head_ends_in_408(tmp_path: Path) -> None:
    async with between(tmp_path, Limits(head_seconds=0.5)) as wire, wire.client() as client:

        async def trickle() -> None:
            await client.send(b"GET /v2/ HTTP/1.1\r\n" + HOST)
            while True:
                await asyncio.sleep(0.05)
                await client.send(b"X: y\r\n")

        trickling = asyncio.create_task(trickle())
        response = await client.everything()
        trickling.cancel()

    assert response.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        pytest.param(Limits(connections=3), b"too many connections: 3 are open", id="in all"),
        pytest.param(
            Limits(connections_per_address=3), b"too many connections from 127.0.0.1: 3", id="each"
        ),
    ],
)
async def test_closed_connections_make_room_for_new_ones(
    tmp_path: Path, limits: Limits, reason: bytes
) -> None:
    async with between(tmp_path, limits) as wire:
        for _ in range(3):
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(3):
                    await _admitted(wire, stack)
                refused = await wire.response_to(b"")
            assert refused.startswith(b"HTTP/1.1 503 " + reason)
            assert b"\r\nAutoregistry: too-many-connections\r\n" in refused


async def _admitted(wire: Wire, stack: contextlib.AsyncExitStack) -> None:
    """Connect as soon as the server has noticed that others have disconnected."""
    async with asyncio.timeout(10):
        while True:
            client = await stack.enter_async_context(wire.client())
            await client.send(b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\n")
            if (await client.head()).startswith(b"HTTP/1.1 200 OK"):
                return


async def test_stalled_body_ends_in_408(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.body()

    async with between(tmp_path, Limits(idle_seconds=0.3)) as wire:
        wire.backend.script = script
        response = await wire.response_to(
            b"PUT /v2/a/blobs/uploads/1 HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nhalf",
            seconds=2,  # aiohttp lingers for 10 s after a response to half a request
        )

    assert response.startswith(b"HTTP/1.1 408 the body stood still for 0.3 s\r\n")
    assert b"Autoregistry: client-stalled" in response


async def test_client_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        try:
            while True:
                exchange.writer.write(b"x" * 1_000_000)
                await exchange.writer.drain()
        except ConnectionError:
            ended.set()

    async with between(tmp_path, Limits(idle_seconds=0.3)) as wire, wire.client() as client:
        wire.backend.script = script
        await client.send(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + b"\r\n")
        await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        pytest.param(
            b"GET /v2/" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
            b"a line of the request is longer than 16384 bytes",
            id="line",
        ),
        pytest.param(
            b"GET /v2/ HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
            b"a line of the request is longer than 16384 bytes",
            id="header",
        ),
        pytest.param(
            b"GET /v2/ HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 500 + b"\r\n",
            b"more than 128 headers",
            id="headers",
        ),
        pytest.param(
            b"GET /v2/ HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n",
            b"not a request in HTTP/1.1: ",
            id="not HTTP",
        ),
    ],
)
async def test_head_that_cannot_be_parsed_is_refused(
    tmp_path: Path, request_text: bytes, reason: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with between(tmp_path) as wire:
        response = await wire.response_to(request_text)

        assert response.startswith(b"HTTP/1.0 400 " + reason)
        assert b"\r\nAutoregistry: unreadable-request\r\n" in response
        assert wire.backend.seen == []
        assert caplog.records == []


async def test_endless_head_is_refused(tmp_path: Path) -> None:
    """Every line is short enough, and there are not too many."""
    async with between(tmp_path) as wire, wire.client() as client:
        await client.send(b"GET /v2/ HTTP/1.1\r\n" + HOST)
        for number in range(100):
            await client.send(b"X-%d: " % number + b"a" * 16_000 + b"\r\n")
        response = await client.everything()

    assert response.startswith(b"HTTP/1.1 400 no head in 512 KiB\r\n")
    assert b"\r\nAutoregistry: unreadable-request\r\n" in response


async def test_requests_pipelined_after_an_endless_response_are_not_read(tmp_path: Path) -> None:
    async with between(tmp_path) as wire, wire.client() as client:
        await client.send(b"GET /_autoregistry/events HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.head()
        request = b"GET /v2/ HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 16_000 + b"\r\n\r\n"
        client.writer.write(request * 1000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.writer.drain()
        client.writer.transport.abort()


async def test_half_a_request_to_our_endpoint_ends_in_408(tmp_path: Path) -> None:
    head = b"POST /_autoregistry/push HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    async with between(tmp_path, Limits(idle_seconds=0.3)) as wire, wire.client() as client:
        await client.send(head + b"Content-Length: 10\r\n\r\n{")

        assert (await client.head()).startswith(b"HTTP/1.1 408 no response within 0.3 s\r\n")


@pytest.mark.parametrize("target", [b"GET /_autoregistry/", b"POST /_autoregistry/push"])
async def test_client_that_reads_none_of_our_responses_is_disconnected(
    tmp_path: Path, target: bytes
) -> None:
    async with between(tmp_path, Limits(idle_seconds=0.3)) as wire, wire.client() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def keep_asking() -> None:
            while True:
                client.writer.write((target + b" HTTP/1.1\r\n" + HOST + b"\r\n") * 1000)
                await client.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(keep_asking(), 60)


async def test_stop_finishes_responses_in_progress(tmp_path: Path) -> None:
    may_continue = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf"[:-2])
        await may_continue.wait()
        exchange.writer.write(b"lf")

    async with contextlib.AsyncExitStack() as stack:
        wire = await stack.enter_async_context(between(tmp_path))
        wire.backend.script = script
        client = await stack.enter_async_context(wire.client())
        await client.send(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.head()
        stopping = asyncio.create_task(wire.stop())
        while await _connects(wire.port):
            pass
        may_continue.set()

        assert await client.exactly(4) == b"half"
        await stopping


async def test_stop_names_the_responses_that_it_cuts_off(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await asyncio.sleep(20)

    async with between(tmp_path, backend=RawBackend(script)) as wire, wire.client() as client:
        await client.send(b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.head()
        await wire.stop(0.1)

        notices = [event.sentence for event in wire.events if isinstance(event, Notice)]
        assert notices == ["GET /v2/a/blobs/x  its response was cut off, the client will try again"]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.exactly(4)


async def _connects(port: int) -> bool:
    try:
        async with connected(port):
            return True
    except ConnectionError:
        return False
