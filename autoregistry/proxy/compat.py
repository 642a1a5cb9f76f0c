"""The private parts of aiohttp and httpx-aiohttp that the proxy relies on.

pyproject.toml bounds the versions of both libraries; tests/proxy/test_compat.py fails when a release moves a part.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web, web_protocol
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError as HttpProcessingError
from aiohttp.http_exceptions import LineTooLong as LineTooLong
from aiohttp.payload import AsyncIterablePayload
from aiohttp.streams import EMPTY_PAYLOAD as EMPTY_PAYLOAD
from aiohttp.streams import StreamReader as StreamReader
from httpx_aiohttp.transport import AiohttpResponseStream as AiohttpResponseStream
from httpx_aiohttp.transport import map_aiohttp_exceptions as map_aiohttp_exceptions

if TYPE_CHECKING:
    from typing_extensions import Buffer

# aiohttp reads 32 requests ahead of the one it is answering, however large their heads are.
web_protocol.MAX_MSG_QUEUE_SIZE = 2


async def send_continue(request: web.Request) -> None:
    """Tell a client that waits for it to send its body."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response itself has not begun


class ResilientSocket(socket.socket):
    """A socket that can be written to after its peer has closed it, so that the peer's last bytes are still read.

    A registry that refuses an upload responds and closes; asyncio drops what it has not read yet when a write fails.
    """

    def send(self, data: Buffer, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Iterable[Buffer], *rest: Any) -> int:  # noqa: ANN401 - never given
        parts = list(buffers)
        try:
            return super().sendmsg(parts, *rest)
        except (BrokenPipeError, ConnectionResetError):
            return sum(memoryview(part).nbytes for part in parts)


class Upload(AsyncIterablePayload):
    """The body of a request to the backend, with a limit on each write: aiohttp has none."""

    def __init__(self, body: AsyncIterable[bytes], seconds: float) -> None:
        super().__init__(body)
        self._body, self._seconds = body, seconds

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - aiohttp's signature; the client's side has counted
    ) -> None:
        self._consumed = True
        async for chunk in self._body:
            try:
                async with asyncio.timeout(self._seconds):
                    await writer.write(chunk)
            except TimeoutError:
                sentence = f"it took nothing of an upload for {self._seconds:g} s"
                raise TimeoutError(sentence) from None


def take_over_body(
    response: aiohttp.ClientResponse, min_bytes: int
) -> tuple[bytes, asyncio.Transport, int] | None:
    """Return the bytes of a body that have arrived, the paused transport of the rest, and the size of the rest.

    None if the length is unknown, fewer than `min_bytes` are to come, or the connection uses TLS.
    """
    content, size = response.content, response.content_length
    if size is None or size - content.total_bytes < min_bytes:
        return None
    source = response.connection.transport if response.connection else None
    if source is None or source.get_extra_info("sslcontext"):
        return None
    begun = b"".join(iter(content.read_nowait, b""))  # the parser keeps nothing back then
    source.pause_reading()
    return begun, source, size - content.total_bytes
