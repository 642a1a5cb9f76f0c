"""A large body moves from transport to transport, and arrives like any other."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoregistry.proxy.backend.transport import PIPE_FROM_BYTES
from autoregistry.settings import Limits
from tests.fakes.wire import Exchange, Script
from tests.helpers.proxy_wire import Wire, between

HOST = b"Host: localhost:5000\r\n"
GET = b"GET /v2/a/blobs/x HTTP/1.1\r\n" + HOST
BODY = random.Random(1).randbytes(5 * PIPE_FROM_BYTES + 7)  # noqa: S311 - any bytes will do


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with between(tmp_path) as wire:
        yield wire


def _sends(*pieces: bytes, size: int = len(BODY)) -> Script:
    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for piece in pieces:
            exchange.writer.write(piece)
            await exchange.writer.drain()

    return script


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([BODY], id="at once"),
        pytest.param([BODY[:1], BODY[1:9000], BODY[9000:]], id="slowly first"),
        pytest.param([BODY[i : i + 77_777] for i in range(0, len(BODY), 77_777)], id="in pieces"),
    ],
)
async def test_every_byte_arrives_and_the_connection_serves_the_next_request(
    wire: Wire, pieces: list[bytes]
) -> None:
    wire.backend.script = _sends(*pieces)
    async with wire.client() as client:
        for _ in range(3):
            await client.send(GET + b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")
            body = await client.exactly(len(BODY))
            assert hashlib.sha256(BODY).digest() == hashlib.sha256(body).digest()


async def test_pipelined_large_responses_do_not_mix(wire: Wire) -> None:
    wire.backend.script = _sends(BODY)
    async with wire.client() as client:
        await client.send((GET + b"\r\n") * 3)
        for _ in range(3):
            await client.head()
            assert await client.exactly(len(BODY)) == BODY


async def test_large_response_that_ends_early_is_broken_for_the_client(wire: Wire) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        exchange.writer.write(BODY[:-9])
        exchange.writer.close()

    wire.backend.script = script
    response = await wire.response_to(GET + b"\r\n")

    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(response.partition(b"\r\n\r\n")[2]) <= len(BODY) - 9


async def test_stalled_large_response_is_cut_off(tmp_path: Path) -> None:
    async with between(tmp_path, Limits(idle_seconds=0.3)) as wire:
        gone = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            exchange.writer.write(BODY[:-9])
            await exchange.reader.read()
            gone.set()

        wire.backend.script = script
        response = await wire.response_to(GET + b"\r\n")
        await asyncio.wait_for(gone.wait(), 10)

    assert len(response.partition(b"\r\n\r\n")[2]) <= len(BODY) - 9


async def test_client_that_disconnects_ends_the_response_of_the_backend(wire: Wire) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        try:
            while True:
                exchange.writer.write(BODY)
                await exchange.writer.drain()
        except ConnectionError:
            gone.set()

    wire.backend.script = script
    async with wire.client() as client:
        await client.send(GET + b"\r\n")
        await client.exactly(1_000_000)
    await asyncio.wait_for(gone.wait(), 10)
