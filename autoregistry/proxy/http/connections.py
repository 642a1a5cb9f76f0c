"""Limits on connections: how many, how long until a request arrives, how long without progress.

Every limit ends in a response that names it. aiohttp's server limits neither the number of connections nor the time
that a request's head takes. This module knows nothing about the meaning of requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

from aiohttp import web

from autoregistry.events import Answer
from autoregistry.proxy.backend.transport import READ_BYTES
from autoregistry.proxy.compat import EMPTY_PAYLOAD, RequestProtocol, Site, StreamReader
from autoregistry.proxy.http.responses import error_response, raw_error_response
from autoregistry.proxy.pull.pushes import one_line
from autoregistry.settings import Limits

# How long a refused client has to read the response before the connection is cut.
_REFUSAL_SECONDS = 2.0
# Far beyond any real head, and the size of two reads: what comes with a head may be the beginning of a body.
_MAX_HEAD_BYTES = 512 * 1024


class ConnectionLimiter:
    """Counts connections, and keeps the requests that are being served."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._active: list[web.Request] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._connections: Counter[str] = Counter()

    def admit(self, address: str) -> str | None:
        """Count a connection, or return why it is refused."""
        if self._connections.total() >= self.limits.connections:
            return f"too many connections: {self.limits.connections} are open"
        if self._connections[address] >= self.limits.connections_per_address:
            return f"too many connections from {address}: {self.limits.connections_per_address}"
        self._connections[address] += 1
        return None

    def release(self, address: str) -> None:
        self._connections[address] -= 1
        if not self._connections[address]:
            del self._connections[address]

    async def wait_until_idle(self, seconds: float) -> list[str]:
        """Wait until no request is being served; return those that still are after this time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return sorted(one_line(f"{request.method} {request.raw_path}") for request in self._active)

    @asynccontextmanager
    async def serving(self, request: web.Request) -> AsyncIterator[None]:
        """Keep a request, whose head has been read, while it is being served."""
        if (connection := connection_of(request)) is not None:
            connection.request_began(request.content)
        self._active.append(request)
        self._idle.clear()
        try:
            yield
        finally:
            self._active.remove(request)
            if not self._active:
                self._idle.set()
            if connection is not None:
                connection.request_ended()


class GuardedConnection(asyncio.Protocol):
    """One connection: passes everything to aiohttp's protocol, and enforces the time limits."""

    def __init__(
        self, make_protocol: Callable[[], asyncio.Protocol], limiter: ConnectionLimiter
    ) -> None:
        self._make_protocol, self._limiter = make_protocol, limiter
        self._protocol: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._active = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self.on_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._address = str((transport.get_extra_info("peername") or ("?",))[0])
        if (reason := self._limiter.admit(self._address)) is not None:
            self._refuse(Answer.TOO_MANY_CONNECTIONS, reason)
            return
        self._protocol = self._make_protocol()
        self._protocol.connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        if self._protocol is None:
            return
        # After a response that came before its end, the rest of a body: aiohttp reads it for ten seconds.
        is_head = not self._active and self._body.is_eof()
        if is_head:
            if self._timer is None:
                self._start_timer()
            self._head_bytes += len(data)
        self._protocol.data_received(data)
        if is_head and not self._active and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(Answer.MALFORMED_REQUEST, f"no head in {_MAX_HEAD_BYTES // 1024} KiB")

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received() if self._protocol is not None else None

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._protocol is not None:
            self._limiter.release(self._address)
            self._protocol.connection_lost(exc)

    def request_began(self, body: StreamReader) -> None:
        self._active += 1
        self._body = body
        self._head_bytes = 0
        self._stop_timer()

    def request_ended(self) -> None:
        """Limit the time in which the client must read the end of the response; aiohttp waits for ever."""
        self._active -= 1
        if not self._active and self._timer is None and self.transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            seconds = self._limiter.limits.idle_seconds
            self._timer = loop.call_later(seconds, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        self._timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _start_timer(self) -> None:
        seconds = self._limiter.limits.head_seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._head_timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_timed_out(self) -> None:
        seconds = self._limiter.limits.head_seconds
        self._refuse(Answer.NO_REQUEST, f"no request within {seconds:g} s")

    def _refuse(self, answer: Answer, reason: str) -> None:
        self.transport.write(raw_error_response(answer, reason))
        self.transport.close()
        asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, self.transport.abort)


def guarded_site(runner: web.AppRunner, host: str, port: int, limiter: ConnectionLimiter) -> Site:
    """Return a listening address, each of whose connections is guarded."""

    def connection(server: web.Server) -> GuardedConnection:
        def protocol() -> RequestProtocol:
            return RequestProtocol(server, limiter.limits, READ_BYTES, _unparsable)

        return GuardedConnection(protocol, limiter)

    return Site(runner, host, port, connection)


def _unparsable(reason: str) -> web.Response:
    response = error_response(Answer.MALFORMED_REQUEST, reason)
    response.force_close()
    return response


def connection_of(request: web.Request) -> GuardedConnection | None:
    """Return the connection that a request came by; None if it is closed."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, GuardedConnection) else None
