"""Limits on connections: how many, how long until a request arrives, how long without progress.

Every limit ends in a response that names it. aiohttp's server limits neither the number of connections nor the time
that a request's head takes. This module knows nothing about the meaning of requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

from aiohttp import web

from autoregistry.events import Answer
from autoregistry.proxy.backend.pipe import READ_BYTES
from autoregistry.proxy.compat import EMPTY_PAYLOAD, LineTooLong, StreamReader
from autoregistry.proxy.http.responses import Refused, raw_error_response
from autoregistry.proxy.pull.pushes import one_line
from autoregistry.settings import Limits

# How long a refused client has to read the response before the connection is cut.
_REFUSAL_SECONDS = 2.0
# Far beyond any real head, and the size of two reads: what comes with a head may be the beginning of a body.
_MAX_HEAD_BYTES = 512 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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


class GuardedConnection(web.RequestHandler):
    """aiohttp's side of one connection, with time limits, and with responses of our own to what it cannot parse."""

    def __init__(self, server: web.Server, limiter: ConnectionLimiter) -> None:
        limits = limiter.limits
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            read_bufsize=READ_BYTES,
            keepalive_timeout=limits.keepalive_seconds,
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            max_headers=limits.headers,
            auto_decompress=False,
        )
        self._limiter = limiter
        self._address: str | None = None
        """The client's address, once the connection has been admitted."""
        self._timer: asyncio.TimerHandle | None = None
        self._active = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self.on_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = cast(asyncio.Transport, transport)  # aiohttp drops its own when it closes
        address = str((transport.get_extra_info("peername") or ("?",))[0])
        if (reason := self._limiter.admit(address)) is not None:
            self._refuse(Answer.TOO_MANY_CONNECTIONS, reason)
            return
        self._address = address
        super().connection_made(transport)
        self._start_timer(self._limiter.limits.head_seconds, self._head_timed_out)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        # After a response that came before its end, the rest of a body: aiohttp reads it for ten seconds.
        is_head = bool(data) and not self._active and self._body.is_eof()
        if is_head:
            if self._timer is None:
                self._start_timer(self._limiter.limits.head_seconds, self._head_timed_out)
            self._head_bytes += len(data)
        super().data_received(data)
        if is_head and not self._active and self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(Answer.MALFORMED_REQUEST, f"no head in {_MAX_HEAD_BYTES // 1024} KiB")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        if self._address is not None:
            self._limiter.release(self._address)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to a request that aiohttp cannot parse, or that a handler failed at."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        reason = f"not a request in HTTP/1.1: {(message or '').partition(chr(10))[0][:200]}"
        if isinstance(exc, LineTooLong):
            reason = f"a line of the request is longer than {self.max_line_size} bytes"
        elif message and message.startswith("Too many headers"):
            reason = f"more than {self.max_headers} headers"
        return Refused(Answer.MALFORMED_REQUEST, reason, close=True).response()

    def request_began(self, body: StreamReader) -> None:
        self._active += 1
        self._body = body
        self._head_bytes = 0
        self._stop_timer()

    def request_ended(self) -> None:
        """Limit the time in which the client must read the end of the response; aiohttp waits for ever."""
        self._active -= 1
        if not self._active and self._timer is None and self.peer.get_write_buffer_size():
            self._start_timer(self._limiter.limits.idle_seconds, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        self._timer = None
        if self.peer.get_write_buffer_size():
            self.peer.abort()

    def _start_timer(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_timed_out(self) -> None:
        seconds = self._limiter.limits.head_seconds
        self._refuse(Answer.NO_REQUEST, f"no request within {seconds:g} s")

    def _refuse(self, answer: Answer, reason: str) -> None:
        self.peer.write(raw_error_response(answer, reason))
        self.peer.close()
        asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, self.peer.abort)


class GuardedServer(web.Server):
    """aiohttp's server, each of whose connections is guarded."""

    def __init__(self, handler: Handler, limiter: ConnectionLimiter) -> None:
        # A client that closes its connection ends its own wait; pushes go on without it.
        loop = asyncio.get_running_loop()
        make = partial(web.Request, loop=loop, client_max_size=0)
        super().__init__(cast(Any, handler), request_factory=make, handler_cancellation=True)
        self._limiter = limiter

    def __call__(self) -> GuardedConnection:
        return GuardedConnection(self, self._limiter)


def connection_of(request: web.Request) -> GuardedConnection | None:
    """Return the connection that a request came by; None if it is closed."""
    protocol = request.protocol if request.transport is not None else None
    return protocol if isinstance(protocol, GuardedConnection) else None
