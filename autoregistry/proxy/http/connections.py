"""What one client may take: connections, time to say what it wants, time to go on.

Every limit ends in an answer that names it. Refuses to know what a request is about; the HTTP server inside
(aiohttp's) has no limit on connections, nor on the time a head takes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

from aiohttp import web, web_protocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from autoregistry.events import Answer
from autoregistry.proxy.backend.transport import READ_BYTES
from autoregistry.proxy.http.responses import error_response, raw_error_response
from autoregistry.proxy.pull.pushes import one_line
from autoregistry.settings import Limits

# How long a refused client has to take its answer before the connection is cut.
_FAREWELL_SECONDS = 2.0
# Far beyond what anybody needs, and the size of two reads: what comes with a head may be the beginning of a body.
_HEAD_BYTES = 512 * 1024
# aiohttp reads 32 requests ahead of the one that is being answered, whatever their heads take.
web_protocol.MAX_MSG_QUEUE_SIZE = 2


class ConnectionLimiter:
    """Counts who is in, and knows which requests are being answered."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._active: list[web.Request] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._in: Counter[str] = Counter()

    def enter(self, address: str) -> str | None:
        """Let a connection in, or say why not."""
        if self._in.total() >= self.limits.connections:
            return f"too many connections: {self.limits.connections} are open"
        if self._in[address] >= self.limits.connections_per_address:
            return f"too many connections from {address}: {self.limits.connections_per_address}"
        self._in[address] += 1
        return None

    async def emptied(self, seconds: float) -> list[str]:
        """Wait until nothing is being answered; what still is after that time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        return sorted(one_line(f"{asked.method} {asked.raw_path}") for asked in self._active)

    def leave(self, address: str) -> None:
        self._in[address] -= 1
        if not self._in[address]:
            del self._in[address]

    @asynccontextmanager
    async def answering(self, request: web.Request) -> AsyncIterator[None]:
        """A request whose head has been read."""
        if (guard := guard_of(request)) is not None:
            guard.head_came(request.content)
        self._active.append(request)
        self._empty.clear()
        try:
            yield
        finally:
            self._active.remove(request)
            if not self._active:
                self._empty.set()
            if guard is not None:
                guard.answered()


class GuardedSite(web.BaseSite):
    """Listens as aiohttp's own site does, with a guard before each connection."""

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, door: ConnectionLimiter
    ) -> None:
        super().__init__(runner)
        self._host, self._port, self._door = host, port, door

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        if (inner := self._runner.server) is None:
            raise RuntimeError("the runner is not set up")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: GuardedConnection(lambda: _Handler(inner, loop, self._door.limits), self._door),
            self._host,
            self._port,
            backlog=1024,
        )


class _Handler(web.RequestHandler):
    """aiohttp's side of a connection; what it cannot read it answers in our form, without a traceback in the log."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        super().__init__(
            server,
            loop=loop,
            read_bufsize=READ_BYTES,
            keepalive_timeout=limits.keepalive_seconds,
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            max_headers=limits.headers,
            auto_decompress=False,
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != 400:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, LineTooLong):
            sentence = f"a line of the request is longer than {self.max_line_size} bytes"
        elif message and message.startswith("Too many headers"):
            sentence = f"more than {self.max_headers} headers"
        else:
            sentence = "not a request in HTTP/1.1: " + (message or "").partition("\n")[0][:200]
        response = error_response(Answer.MALFORMED_REQUEST, sentence)
        response.force_close()
        return response


class GuardedConnection(asyncio.Protocol):
    """One connection: hands everything to aiohttp's protocol, and keeps the time."""

    def __init__(self, inner: Callable[[], asyncio.Protocol], door: ConnectionLimiter) -> None:
        self._make, self._door = inner, door
        self._inner: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._active = 0
        self._body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        self.on_writable: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._address = str((transport.get_extra_info("peername") or ("?",))[0])
        if (reason := self._door.enter(self._address)) is not None:
            self._dismiss(Answer.TOO_MANY_CONNECTIONS, reason)
            return
        self._inner = self._make()
        self._inner.connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        # Behind an answer that came before its end, the rest of a body: aiohttp takes it for ten seconds.
        is_head = not self._active and self._body.is_eof()
        if is_head:
            if self._timer is None:
                self._start_timer()
            self._head_bytes += len(data)
        self._inner.data_received(data)
        if is_head and not self._active and self._head_bytes > _HEAD_BYTES:
            self._dismiss(Answer.MALFORMED_REQUEST, f"no head in {_HEAD_BYTES // 1024} KiB")

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._inner is not None:
            self._door.leave(self._address)
            self._inner.connection_lost(exc)

    def head_came(self, body: StreamReader) -> None:
        self._active += 1
        self._body = body
        self._head_bytes = 0
        self._stop_timer()

    def answered(self) -> None:
        """aiohttp waits for ever for a client to take the end of its answer."""
        self._active -= 1
        if not self._active and self._timer is None and self.transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._door.limits.idle_seconds, self._unread)

    def _unread(self) -> None:
        self._timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _start_timer(self) -> None:
        seconds = self._door.limits.head_seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        seconds = self._door.limits.head_seconds
        self._dismiss(Answer.NO_REQUEST, f"no request within {seconds:g} s")

    def _dismiss(self, answer: Answer, reason: str) -> None:
        self.transport.write(raw_error_response(answer, reason))
        self.transport.close()
        asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, self.transport.abort)


def guard_of(request: web.Request) -> GuardedConnection | None:
    """The connection a request came by; None where it is gone."""
    guard = request.transport.get_protocol() if request.transport is not None else None
    return guard if isinstance(guard, GuardedConnection) else None
