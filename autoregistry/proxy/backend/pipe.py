"""A large body on its way to the client: each piece that the backend sends is written to the client at once.

A parser, two queues and a task switch for each piece cost more than the bytes themselves, and each connection would
hold what it has read. This module knows no HTTP: it moves a known number of bytes from one transport to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

READ_BYTES = 256 * 1024


class Writable(Protocol):
    """The client's connection."""

    peer: asyncio.Transport

    on_writable: Callable[[], None] | None
    """Called when everything that was written has been sent."""


class Pipe(asyncio.BufferedProtocol):
    """The last `remaining` bytes of a response. Replaces the protocol of the backend's connection."""

    _buffer = memoryview(bytearray(READ_BYTES))
    """The buffer that all pipes read into. It is free again as soon as a piece has been written."""

    def __init__(self, source: asyncio.Transport, remaining: int, read_bytes: int) -> None:
        self._source, self._read_bytes = source, read_bytes
        self._original = cast(asyncio.Protocol, source.get_protocol())
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.remaining = remaining

    async def transfer(self, client: Writable, idle_seconds: float) -> None:
        """Send all bytes. Raises ConnectionError if the backend closes early, TimeoutError if nothing moves."""
        self._target = client.peer
        client.on_writable = self._resume
        # Report at once that something could not be sent, and that it has been sent.
        self._target.set_write_buffer_limits(high=0)
        self._source.set_protocol(self)
        try:
            if not self._target.get_write_buffer_size():
                self._resume()
            before = self.remaining + 1
            while not self._ended.done():
                if before == self.remaining:
                    raise TimeoutError
                before = self.remaining
                await asyncio.wait((self._ended,), timeout=idle_seconds)
            self._ended.result()
        finally:
            self._source.pause_reading()
            self._source.set_protocol(self._original)
            client.on_writable = None
            self._target.set_write_buffer_limits()
            self._ended.cancel()

    def _resume(self) -> None:
        if self.remaining:
            self._source.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._buffer[: min(self.remaining, self._read_bytes)]

    def buffer_updated(self, nbytes: int) -> None:
        if self._target.is_closing():
            self._source.pause_reading()
            return
        self.remaining -= nbytes
        self._target.write(self._buffer[:nbytes])
        if self._target.get_write_buffer_size():
            self._source.pause_reading()
            # The transport keeps what it could not send (CPython from 3.12 on uncopied).
            Pipe._buffer = memoryview(bytearray(READ_BYTES))
        if not self.remaining and not self._ended.done():
            self._source.pause_reading()
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._original.connection_lost(exc)
        if not self._ended.done():
            self._ended.set_exception(ConnectionError(f"{self.remaining} bytes before its end"))
