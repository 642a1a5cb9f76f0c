"""Limits on connections: how many, how long until a request arrives, how long without progress.

Every limit ends in a response that names it. aiohttp's server limits neither the number of connections nor the time
that a request's head takes. This module knows nothing about the meaning of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import cast

from aiohttp import web

from autoregistry.events import Answer
from autoregistry.proxy.backend.pipe import READ_BYTES
from autoregistry.proxy.backend.response import one_line
from autoregistry.proxy.compat import EMPTY_PAYLOAD, LineTooLong, StreamReader
from autoregistry.proxy.http.responses import OwnResponse, raw_error_response
from autoregistry.settings import Limits

# How long a refused client has to read the response before the connection is cut.
_REFUSAL_SECONDS = 2.0
# Far beyond any real head, and the size of two reads: what comes with a head may be the beginning of a body.
_MAX_HEAD_BYTES = 512 * 1024
IDLE_POLL_SECONDS = 0.02
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GuardedServer(web.Server):
    """aiohttp's server, with a limit on its connections. It keeps the requests that are being served."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        make = partial(web.Request, loop=asyncio.get_running_loop(), client_max_size=0)
        # A client that closes its connection ends its own wait; pushes go on without it.
        super().__init__(self._serve, request_factory=make, handler_cancellation=True)
        self._handler = handler
        self.limits = limits
        self._serving: list[web.Request] = []

    def __call__(self) -> GuardedConnection:
        return GuardedConnection(self)

    def refusal(self, address: str) -> str | None:
        """Return the reason why a further connection from this address is refused; None if it is not."""
        addresses = [cast(GuardedConnection, c).address for c in self.connections]
        if len(addresses) >= self.limits.connections:
            return f"too many connections: {self.limits.connections} are open"
        if addresses.count(address) >= self.limits.connections_per_address:
            return f"too many connections from {address}: {self.limits.connections_per_address}"
        return None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        request = cast(web.Request, request)
        connection = connection_of(request)
        connection.request_began(request.content)
        self._serving.append(request)
        try:
            return await self._handler(request)
        finally:
            self._serving.remove(request)
            connection.request_ended()

    async def wait_until_idle(self, seconds: float) -> list[str]:
        """Wait until no request is being served; return those that still are after this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._serving:  # noqa: ASYNC110 - the proxy stops, and this is no hot path
                    await asyncio.sleep(IDLE_POLL_SECONDS)
        return sorted(one_line(f"{request.method} {request.raw_path}") for request in self._serving)


class GuardedConnection(web.RequestHandler):
    """aiohttp's side of one connection, with time limits, and with responses of our own to what it cannot parse."""

    def __init__(self, server: GuardedServer) -> None:
        limits = server.limits
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
        self._server, self._limits = server, limits
        self.address: str | None = None
        """The client's address, once the connection has been admitted."""
        self._timer: asyncio.TimerHandle | None = None
        self._active = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self.on_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = cast(asyncio.Transport, transport)  # aiohttp drops its own when it closes
        address = str((transport.get_extra_info("peername") or ("?",))[0])
        if (reason := self._server.refusal(address)) is not None:
            self._refuse(Answer.TOO_MANY_CONNECTIONS, reason)
            return
        self.address = address
        super().connection_made(transport)
        self._start_timer(self._limits.head_seconds, self._head_timed_out)

    def data_received(self, data: bytes) -> None:
        if self.address is None:
            return
        # After a response that came before its end, the rest of a body: aiohttp reads it for ten seconds.
        is_head = bool(data) and not self._active and self._body.is_eof()
        if is_head:
            if self._timer is None:
                self._start_timer(self._limits.head_seconds, self._head_timed_out)
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
        return OwnResponse(Answer.MALFORMED_REQUEST, reason, close=True).response()

    def request_began(self, body: StreamReader) -> None:
        self._active += 1
        self._body = body
        self._head_bytes = 0
        self._stop_timer()

    def request_ended(self) -> None:
        """Limit the time in which the client must read the end of the response; aiohttp waits for ever."""
        self._active -= 1
        if not self._active and self._timer is None and self.peer.get_write_buffer_size():
            self._start_timer(self._limits.idle_seconds, self._abort_if_unread)

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
        seconds = self._limits.head_seconds
        self._refuse(Answer.NO_REQUEST, f"no request within {seconds:g} s")

    def _refuse(self, answer: Answer, reason: str) -> None:
        self.peer.write(raw_error_response(answer, reason))
        self.peer.close()
        asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, self.peer.abort)


def connection_of(request: web.Request) -> GuardedConnection:
    """Return the connection that a request came by."""
    return cast(GuardedConnection, request.protocol)
