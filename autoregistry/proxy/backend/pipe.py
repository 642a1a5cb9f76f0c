"""A large body on its way through: what the backend sends is written to the client at once.

A parser, two queues and a change of tasks for each piece cost more than the bytes themselves, and each connection
would hold what it has read. Refuses to know HTTP: it moves a known number of bytes from one transport to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast


class Scratch:
    """What all pipes read into: between two pieces it is nobody's."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))

    def renew(self) -> None:
        """Leave it to a transport that could not send all of it (CPython from 3.12 on keeps it, uncopied)."""
        self.view = memoryview(bytearray(len(self.view)))


class Writable(Protocol):
    """The client's side."""

    transport: asyncio.Transport

    on_writable: Callable[[], None] | None
    """Called when all that was written has gone out."""


class Pipe(asyncio.BufferedProtocol):
    """The last `left` bytes of an answer, from the transport of its connection, whose protocol it replaces."""

    def __init__(
        self, source: asyncio.Transport, left: int, scratch: Scratch, read_bytes: int
    ) -> None:
        self._source, self._scratch, self._read_bytes = source, scratch, read_bytes
        self._before = cast(asyncio.Protocol, source.get_protocol())
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = left

    async def pour(self, to: Writable, idle_seconds: float) -> None:
        """Move it all. Raises ConnectionError where the backend broke off, TimeoutError where nothing moved."""
        with self._between(to):
            before = self.left + 1
            while not self._ended.done():
                if before == self.left:
                    raise TimeoutError
                before = self.left
                await asyncio.wait((self._ended,), timeout=idle_seconds)
            self._ended.result()

    @contextmanager
    def _between(self, to: Writable) -> Iterator[None]:
        self._target = to.transport
        to.on_writable = self._go_on
        # Told at once when something could not be sent, and when it has been.
        self._target.set_write_buffer_limits(high=0)
        self._source.set_protocol(self)
        try:
            if not self._target.get_write_buffer_size():
                self._go_on()
            yield
        finally:
            self._source.pause_reading()
            self._source.set_protocol(self._before)
            to.on_writable = None
            self._target.set_write_buffer_limits()
            self._ended.cancel()

    def _go_on(self) -> None:
        if self.left:
            self._source.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._scratch.view[: min(self.left, self._read_bytes)]

    def buffer_updated(self, nbytes: int) -> None:
        if self._target.is_closing():
            self._source.pause_reading()
            return
        self.left -= nbytes
        self._target.write(self._scratch.view[:nbytes])
        if self._target.get_write_buffer_size():
            self._source.pause_reading()
            self._scratch.renew()
        if not self.left and not self._ended.done():
            self._source.pause_reading()
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)
        if not self._ended.done():
            self._ended.set_exception(ConnectionError(f"{self.left} bytes before its end"))
