"""The private parts of other libraries are where compat.py expects them.

If a test here fails after an upgrade, the library has moved a part: correct compat.py and the bounds in pyproject.toml.
"""

from __future__ import annotations

import ast
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from autoregistry.proxy import compat
from autoregistry.proxy.http.connections import GuardedServer
from autoregistry.settings import Limits
from tests.fakes.wire import Exchange, RawBackend, connected

PROXY = Path(compat.__file__).parent
FILES = sorted(path for path in PROXY.rglob("*.py") if path.name != "compat.py")
PUBLIC = {"aiohttp", "aiohttp.web", "httpx_aiohttp"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROXY)))
def test_only_compat_imports_private_modules(path: Path) -> None:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    modules = {node.module for node in nodes if node.module}

    assert {m for m in modules if m.startswith(("aiohttp", "httpx_aiohttp"))} <= PUBLIC


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("aiohttp.streams", "EMPTY_PAYLOAD"),
        ("aiohttp.streams", "StreamReader.total_bytes"),
        ("aiohttp.streams", "StreamReader.read_nowait"),
        ("aiohttp.streams", "StreamReader.is_eof"),
        ("aiohttp.http_exceptions", "LineTooLong"),
        ("aiohttp.http_exceptions", "HttpProcessingError"),
        ("aiohttp.payload", "AsyncIterablePayload.write_with_length"),
        ("aiohttp.web", "StreamResponse._prepare_headers"),
        ("aiohttp.web", "RequestHandler.handle_error"),
        ("aiohttp.abc", "AbstractStreamWriter.output_size"),
        ("httpx_aiohttp.transport", "map_aiohttp_exceptions"),
        ("httpx_aiohttp.transport", "AiohttpResponseStream.CHUNK_SIZE"),
        ("httpx_aiohttp.transport", "AiohttpTransport.get_client"),
        ("httpx_aiohttp.transport", "AiohttpTransport.handle_async_request"),
    ],
)
def test_a_private_part_is_in_its_place(module: str, name: str) -> None:
    part = import_module(module)
    for attribute in name.split("."):
        assert hasattr(part, attribute), f"{module} has no {name}"
        part = getattr(part, attribute)


@asynccontextmanager
async def _serving(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[int]:
    """Yield the port of a server with guarded connections."""
    runner = web.ServerRunner(GuardedServer(handler, Limits(head_bytes=100, headers=6)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def test_aiohttp_reads_two_requests_ahead() -> None:
    queue_sizes = []

    async def handler(request: web.Request) -> web.Response:
        queue_sizes.append(request.protocol._max_msg_queue_size)
        return web.Response()

    async with _serving(handler) as port, aiohttp.ClientSession() as session:
        await session.get(f"http://127.0.0.1:{port}/")

    assert queue_sizes == [2]
    assert "max_msg_queue_size=MAX_MSG_QUEUE_SIZE" in inspect.getsource(web.RequestHandler.__init__)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"X: " + b"a" * 200 + b"\r\n", "a line of the request is longer than 100 bytes"),
        (b"X: y\r\n" * 9, "more than 6 headers"),
        (b"no colon\r\n", "not a request in HTTP/1.1: "),
    ],
    ids=["line", "headers", "no header"],
)
async def test_errors_of_aiohttps_parser_are_recognised(lines: bytes, expected: str) -> None:
    async with _serving(_echo) as port, connected(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        status_line = (await client.head()).decode().partition("\r\n")[0]

    assert status_line.startswith(f"HTTP/1.0 400 {expected}")


async def test_aiohttp_sends_a_body_through_the_upload() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    upload = compat.Upload(body(), 10)
    async with (
        _serving(_echo) as port,
        aiohttp.ClientSession(skip_auto_headers=["User-Agent", "Accept-Encoding"]) as session,
        session.put(f"http://127.0.0.1:{port}/", data=upload) as response,
    ):
        assert await response.read() == b"ab"

    assert upload.consumed


async def test_a_large_body_is_taken_over_from_aiohttp() -> None:
    size = 1 << 20

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        exchange.writer.write(b"x" * 1000)
        await exchange.writer.drain()

    async with (
        RawBackend(script).serving() as backend,
        aiohttp.ClientSession() as session,
        session.get(backend.url) as response,
    ):
        assert compat.take_over_body(response, size + 1) is None
        taken = compat.take_over_body(response, 1)
        assert taken is not None
        begun, transport, remaining = taken

        assert len(begun) + remaining == size
        assert not transport.is_reading()
        response.close()


def test_a_socket_takes_what_its_peer_will_not_read() -> None:
    ours, theirs = socket.socketpair()
    with compat.ResilientSocket(ours.family, ours.type, fileno=ours.detach()) as resilient:
        theirs.close()

        assert resilient.send(b"late") == 4
        assert resilient.sendmsg([b"late", b"r"]) == 5
