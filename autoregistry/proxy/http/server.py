"""HTTP in: which request is a pull, which goes straight on, and the bytes back.

Refuses to interpret anything but the request line, Host and User-Agent; what `names.py` does not recognise
goes to the backend as it came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from autoregistry.errors import BackendUnreachable, ListenFailed
from autoregistry.events import Answer, Emit, ManualPushSeen, Notice, PullAnswered, PullSeen
from autoregistry.names import Blob, Image, Manifest, Request, Upload, parse_target
from autoregistry.proxy.backend.client import MAX_MANIFEST_BYTES, Backend
from autoregistry.proxy.backend.messages import BackendRequest, BackendResponse
from autoregistry.proxy.backend.transport import end_to_end
from autoregistry.proxy.http import admission
from autoregistry.proxy.http.connections import ConnectionLimiter, connection_of, guarded_site
from autoregistry.proxy.http.request_body import (
    BodyTruncated,
    ClientBody,
    ClientStalled,
    failure_response,
    read_ahead,
)
from autoregistry.proxy.http.responses import (
    ForwardedResponse,
    drop_default_headers,
    error_response,
)
from autoregistry.proxy.pull.handler import PullHandler, Reply
from autoregistry.settings import Settings

# How long a stop waits for the pushes and the answers under way, together.
STOP_SECONDS = 10.0
NAMED_AT_A_STOP = 10

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# None: not for this client after all.
OwnPage = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Server:
    """The listening side of one proxy."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        pulls: PullHandler,
        emit: Emit,
        pages: dict[tuple[str, str], OwnPage],
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._pulls = pulls
        self._emit = emit
        self._pages = pages
        self._hosts = admission.our_hosts(settings)
        self._idle = settings.limits.idle_seconds
        app = web.Application(client_max_size=0, middlewares=[self._unrouted])
        app.on_response_prepare.append(drop_default_headers)
        route = "/{any:(?s:.*)}"
        app.router.add_route("*", route, self._handle, expect_handler=admission.handle_expect)
        # A client that hangs up ends its own wait; flights belong to nobody and go on.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        self._limiter = ConnectionLimiter(settings.limits)

    async def start(self) -> None:
        """Listen. Raises ListenFailed."""
        await self._runner.setup()
        for address in self._settings.listen:
            try:
                await guarded_site(self._runner, address.host, address.port, self._limiter).start()
            except OSError as exc:
                await self._runner.cleanup()
                raise ListenFailed(
                    f"cannot listen on {address}: {exc.strerror or exc}",
                    f"autoregistry serve --listen {address.host}:{address.port + 1}",
                ) from exc

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, ports of 0 filled in."""
        return [(a[0], a[1]) for a in self._runner.addresses]

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Take no more requests, finish the responses in progress for so long, cut the others off."""
        for site in list(self._runner.sites):
            await site.stop()
        left = await self._limiter.wait_until_idle(seconds)
        for asked in left[:NAMED_AT_A_STOP]:
            self._emit(Notice(f"{asked}  its answer was cut off, the client will ask again"))
        if (more := len(left) - NAMED_AT_A_STOP) > 0:
            self._emit(Notice(f"and {more} more"))
        await self._runner.cleanup()

    @web.middleware
    async def _unrouted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """aiohttp has no route for what is no path, such as `OPTIONS *`."""
        return await (handler if request.path.startswith("/") else self._handle)(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        async with self._limiter.serving(request):
            try:
                answer = await self._answer(request)
            except web.HTTPException as exc:
                answer = web.Response(status=exc.status, text=exc.text)
            if not answer.prepared:
                await self._send(request, answer)
            return answer

    async def _send(self, request: web.Request, answer: web.StreamResponse) -> None:
        """An answer of ours, to somebody who may not read it."""
        try:
            async with asyncio.timeout(self._idle):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            raise _cut_off(request) from None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        host = admission.host_name(request.headers.get("Host", ""))
        if host not in self._hosts and not admission.is_ip(host):
            return error_response(
                Answer.FOREIGN_HOST, f"{host[:100] or 'no Host'} is not a name of this registry"
            )
        page = self._pages.get((request.method, request.raw_path.partition("?")[0]))
        if page is not None and (answer := await self._own_page(page, request)) is not None:
            return answer
        wanted = parse_target(request.raw_path)
        if wanted is None:
            return error_response(
                Answer.NOT_A_REGISTRY_REQUEST, "not a registry request: those begin with /v2/"
            )
        if admission.is_from_another_site(request):
            # It cannot read the answer, but its question may start a push.
            return error_response(Answer.FOREIGN_HOST, "not for other sites' pages")
        if not self._settings.names.serves_namespace(wanted.namespace):
            return error_response(Answer.NOT_MIRRORED, f"{wanted.namespace} is not mirrored here")
        if (wrong := admission.framing_fault(request)) is not None:
            response = error_response(Answer.NOT_A_REGISTRY_REQUEST, wrong)
            response.force_close()  # what follows on this connection may be that body
            return response
        body = ClientBody(request.content, self._idle) if request.body_exists else None
        try:
            return await self._registry(request, wanted, host, body)
        except (BackendUnreachable, ClientStalled, BodyTruncated) as exc:
            return failure_response(exc, body)

    async def _own_page(self, page: OwnPage, request: web.Request) -> web.StreamResponse | None:
        if request.method == "GET":  # the event stream has no end
            return await page(request)
        try:
            async with asyncio.timeout(self._idle):
                return await page(request)
        except TimeoutError:
            return error_response(Answer.CLIENT_STALLED, f"no answer within {self._idle:g} s")

    async def _registry(
        self, request: web.Request, wanted: Request, host: str, body: ClientBody | None
    ) -> web.StreamResponse:
        ask = BackendRequest(
            request.method, request.raw_path, end_to_end(request.raw_headers), body
        )
        if isinstance(wanted, Manifest) and body is not None:
            ahead = await read_ahead(body, MAX_MANIFEST_BYTES)
            ask = replace(ask, body=ahead, has_whole_body=ahead.is_whole)
        match request.method, wanted:
            case "GET" | "HEAD", Manifest():
                return await self._pull(request, ask, wanted)
            case "PUT", Manifest(repository, str(tag)) if not self._pulls.is_own_push(ask):
                return await self._hand_push(request, ask, Image(repository, tag))
            case "PUT", Manifest(repository, str(tag)):
                if (held := await self._pulls.own_manifest(ask, Image(repository, tag))) is None:
                    return error_response(
                        Answer.PUSH_FAILED, "somebody else has pushed it meanwhile"
                    )
                return await self._forward(request, held)
            case "GET", Blob(repository) if self._redirects(host):
                # Asked first: what it has lost we must know of, and it would be asked for there.
                async with await self._pulls.blob(replace(ask, method="HEAD"), repository) as held:
                    if held.status < 400:
                        place = {"Location": f"{self._backend.url}{request.raw_path}"}
                        return error_response(
                            Answer.REDIRECTED, "the registry behind has it", place
                        )
                return await self._forward(request, await self._backend.send(ask))
            case "GET", Blob(repository):
                return await self._forward(request, await self._pulls.blob(ask, repository))
            case "HEAD", Blob() if self._pulls.is_own_push(ask):
                return await self._forward(request, await self._pulls.asked_by_push(ask))
            case _, Manifest() | Upload() if self._pulls.is_own_push(ask):
                return await self._forward(
                    request, await self._pulls.own_push(ask, wanted.repository)
                )
            case _:
                return await self._forward(request, await self._backend.send(ask))

    async def _hand_push(
        self, request: web.Request, ask: BackendRequest, image: Image
    ) -> web.StreamResponse:
        async def push() -> BackendResponse:
            held = await self._pulls.hand_push(ask, image)
            if held.status < 300:
                self._emit(ManualPushSeen(image, admission.client_name(request), held.digest or ""))
            return held

        # Shielded: the backend may have taken it by the time the client hangs up.
        pushing = asyncio.create_task(push())
        try:
            held = await asyncio.shield(pushing)
        except asyncio.CancelledError:
            await asyncio.wait({pushing})
            if pushing.exception() is None:
                await pushing.result().close()
            raise
        return await self._forward(request, held)

    async def _pull(
        self, request: web.Request, ask: BackendRequest, wanted: Manifest
    ) -> web.StreamResponse:
        began, client = time.monotonic(), admission.client_name(request)
        self._emit(PullSeen(wanted, client))
        try:
            reply = await self._pulls.reply(ask, wanted)
        except BackendUnreachable as exc:
            reply = Reply(Answer.BACKEND_UNREACHABLE, exc.message)
        status = reply.held.status if reply.held else reply.answer.status or 0
        seconds = time.monotonic() - began
        self._emit(PullAnswered(wanted, client, reply.answer, status, reply.sentence, seconds))
        if reply.held is None:
            return error_response(reply.answer, reply.sentence)
        return await self._forward(request, reply.held, reply)

    async def _forward(
        self, request: web.Request, held: BackendResponse, reply: Reply | None = None
    ) -> web.StreamResponse:
        async with held:
            response = ForwardedResponse(held, reply.answer if reply else None)
            if "Upgrade" in request.headers:
                response.force_close()  # aiohttp drops what was sent behind it
            await response.prepare(request)
            try:
                if request.method != "HEAD" and (guard := connection_of(request)) is not None:
                    await held.forward_body(response.write, guard, self._idle)
                async with asyncio.timeout(self._idle):
                    await response.write_eof()
            except (BackendUnreachable, TimeoutError):
                raise _cut_off(request) from None
            return response

    def _redirects(self, host: str) -> bool:
        """A node came over Docker's network, where the backend can be reached as well as we."""
        return host == self._settings.container


def _cut_off(request: web.Request) -> asyncio.CancelledError:
    """The client must see a broken answer, not a short one that looks whole; what ends its handler."""
    if request.transport is not None:
        request.transport.abort()
    return asyncio.CancelledError()
