"""HTTP in: checks of a request, its kind, and the response's way back.

A registry request that is neither part of a pull nor of a push goes to the backend as it came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from autoregistry.errors import BackendUnreachable, ListenFailed
from autoregistry.events import Answer, Emit, Notice, PullAnswered, PullSeen
from autoregistry.names import Image, Manifest, Target, parse_target
from autoregistry.proxy.backend.client import MAX_MANIFEST_BYTES, Backend
from autoregistry.proxy.backend.messages import BackendRequest, BackendResponse
from autoregistry.proxy.backend.transport import end_to_end
from autoregistry.proxy.http import admission
from autoregistry.proxy.http.classify import (
    BlobRead,
    ManualPush,
    OwnPush,
    Passthrough,
    Pull,
    PushCheck,
    classify,
)
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
from autoregistry.proxy.pull.uploads import Uploads
from autoregistry.settings import Settings

# How long a stop waits for the pushes and the responses in progress, together.
SHUTDOWN_SECONDS = 10.0
MAX_CUT_OFF_NOTICES = 10

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""One of the proxy's own endpoints. None: the request is for the registry after all."""


class Server:
    """The listening side of one proxy."""

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        pulls: PullHandler,
        uploads: Uploads,
        emit: Emit,
        endpoints: dict[tuple[str, str], Endpoint],
        *,
        nonce: str,
    ) -> None:
        """`nonce` is in the user agent of our own pushes."""
        self._settings = settings
        self._backend = backend
        self._pulls = pulls
        self._uploads = uploads
        self._emit = emit
        self._endpoints = endpoints
        self._nonce = nonce
        self._hosts = admission.our_hosts(settings)
        self._idle = settings.limits.idle_seconds
        app = web.Application(client_max_size=0, middlewares=[self._unrouted])
        app.on_response_prepare.append(drop_default_headers)
        route = "/{any:(?s:.*)}"
        app.router.add_route("*", route, self._handle, expect_handler=admission.handle_expect)
        # A client that closes its connection ends its own wait; pushes go on without it.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        self._limiter = ConnectionLimiter(settings.limits)

    async def start(self) -> None:
        """Listen. Raises ListenFailed."""
        await self._runner.setup()
        for address in self._settings.listen:
            site = guarded_site(self._runner, address.host, address.port, self._limiter)
            try:
                await site.start()
            except OSError as exc:
                await self._runner.cleanup()
                raise ListenFailed(
                    f"cannot listen on {address}: {exc.strerror or exc}",
                    f"autoregistry serve --listen {address.host}:{address.port + 1}",
                ) from exc

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses it listens on; a port of 0 is replaced by the real one."""
        return [(a[0], a[1]) for a in self._runner.addresses]

    async def stop(self, seconds: float = SHUTDOWN_SECONDS) -> None:
        """Accept no more requests, wait for the responses in progress, and cut off those that take longer."""
        for site in list(self._runner.sites):
            await site.stop()
        unfinished = await self._limiter.wait_until_idle(seconds)
        for request in unfinished[:MAX_CUT_OFF_NOTICES]:
            self._emit(Notice(f"{request}  its response was cut off, the client will try again"))
        if (more := len(unfinished) - MAX_CUT_OFF_NOTICES) > 0:
            self._emit(Notice(f"and {more} more"))
        await self._runner.cleanup()

    @web.middleware
    async def _unrouted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle targets that are no path, such as `OPTIONS *`: aiohttp has no route for them."""
        return await (handler if request.path.startswith("/") else self._handle)(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        async with self._limiter.serving(request):
            try:
                response = await self._respond(request)
            except web.HTTPException as exc:
                response = web.Response(status=exc.status, text=exc.text)
            if not response.prepared:
                await self._send(request, response)
            return response

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        """Send a response of our own to a client that may not read it."""
        try:
            async with asyncio.timeout(self._idle):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            raise _cut_off(request) from None

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        host = admission.host_name(request.headers.get("Host", ""))
        if host not in self._hosts and not admission.is_ip(host):
            return error_response(
                Answer.FOREIGN_HOST, f"{host[:100] or 'no Host'} is not a name of this registry"
            )
        if (response := await self._own_endpoint(request)) is not None:
            return response
        target = parse_target(request.raw_path)
        if target is None:
            return error_response(
                Answer.NOT_A_REGISTRY_REQUEST, "not a registry request: those begin with /v2/"
            )
        if admission.is_from_another_site(request):
            # The page cannot read the response, but the request may start a push.
            return error_response(Answer.FOREIGN_HOST, "not for pages of other sites")
        if not self._settings.names.serves_namespace(target.namespace):
            return error_response(Answer.NOT_MIRRORED, f"{target.namespace} is not mirrored here")
        if (fault := admission.framing_fault(request)) is not None:
            refused = error_response(Answer.NOT_A_REGISTRY_REQUEST, fault)
            refused.force_close()  # what follows on this connection may be that body
            return refused
        body = ClientBody(request.content, self._idle) if request.body_exists else None
        try:
            outgoing = await _backend_request(request, target, body)
            return await self._serve(request, outgoing, target, host)
        except (BackendUnreachable, ClientStalled, BodyTruncated) as exc:
            return failure_response(exc, body)

    async def _own_endpoint(self, request: web.Request) -> web.StreamResponse | None:
        endpoint = self._endpoints.get((request.method, request.raw_path.partition("?")[0]))
        if endpoint is None:
            return None
        if request.method == "GET":  # the event stream has no end
            return await endpoint(request)
        try:
            async with asyncio.timeout(self._idle):
                return await endpoint(request)
        except TimeoutError:
            return error_response(Answer.CLIENT_STALLED, f"no response within {self._idle:g} s")

    async def _serve(
        self, request: web.Request, outgoing: BackendRequest, target: Target, host: str
    ) -> web.StreamResponse:
        kind = classify(
            outgoing.method,
            target,
            outgoing.header(b"user-agent") or "",
            outgoing.header(b"accept") or "",
            nonce=self._nonce,
        )
        match kind:
            case Pull(manifest):
                return await self._pull(request, manifest, self._pulls.reply(outgoing, manifest))
            case PushCheck(Manifest() as manifest):
                return await self._pull(request, manifest, self._check(outgoing))
            case BlobRead(repository) if host == self._settings.container:
                # The client is on Docker's network, and can reach the backend as well as the proxy.
                return await self._redirect(request, outgoing, repository)
            case BlobRead(repository):
                response = await self._pulls.blob(outgoing, repository)
            case PushCheck():
                response = await self._uploads.check(outgoing)
            case OwnPush(push_id, image=None):
                response = await self._uploads.own_upload(outgoing, push_id)
            case OwnPush(push_id, Image() as image):
                accepted = await self._uploads.own_tag(outgoing, image, push_id)
                if accepted is None:
                    return error_response(
                        Answer.PUSH_FAILED,
                        "another client has pushed it in the meantime, or this push has ended",
                    )
                response = accepted
            case ManualPush(image):
                client = admission.client_name(request)
                response = await self._uploads.manual_push(outgoing, image, client)
            case Passthrough():
                response = await self._backend.send(outgoing)
        return await self._forward(request, response)

    async def _pull(
        self, request: web.Request, manifest: Manifest, replying: Awaitable[Reply]
    ) -> web.StreamResponse:
        began, client = time.monotonic(), admission.client_name(request)
        self._emit(PullSeen(manifest, client))
        try:
            reply = await replying
        except BackendUnreachable as exc:
            reply = Reply(Answer.BACKEND_UNREACHABLE, exc.message)
        status = reply.response.status if reply.response else reply.answer.status or 0
        seconds = time.monotonic() - began
        self._emit(PullAnswered(manifest, client, reply.answer, status, reply.sentence, seconds))
        if reply.response is None:
            return error_response(reply.answer, reply.sentence)
        return await self._forward(request, reply.response, reply.answer)

    async def _check(self, outgoing: BackendRequest) -> Reply:
        response = await self._uploads.check(outgoing)
        return Reply(Answer.OWN_PUSH, "a push checks what the registry has", response)

    async def _redirect(
        self, request: web.Request, outgoing: BackendRequest, repository: str
    ) -> web.StreamResponse:
        """Redirect to the backend if it has the blob. Without this check the proxy would not see a lost one."""
        async with await self._pulls.blob(replace(outgoing, method="HEAD"), repository) as response:
            if response.status < 400:
                location = {"Location": f"{self._backend.url}{request.raw_path}"}
                return error_response(Answer.REDIRECTED, "the registry behind has it", location)
        return await self._forward(request, await self._backend.send(outgoing))

    async def _forward(
        self, request: web.Request, response: BackendResponse, answer: Answer | None = None
    ) -> web.StreamResponse:
        async with response:
            forwarded = ForwardedResponse(response, answer)
            if "Upgrade" in request.headers:
                forwarded.force_close()  # aiohttp drops what was sent behind it
            await forwarded.prepare(request)
            try:
                connection = connection_of(request)
                if request.method != "HEAD" and connection is not None:
                    await response.forward_body(forwarded.write, connection, self._idle)
                async with asyncio.timeout(self._idle):
                    await forwarded.write_eof()
            except (BackendUnreachable, TimeoutError):
                raise _cut_off(request) from None
            return forwarded


async def _backend_request(
    request: web.Request, target: Target, body: ClientBody | None
) -> BackendRequest:
    headers = end_to_end(request.raw_headers)
    if not isinstance(target, Manifest) or body is None:
        return BackendRequest(request.method, request.raw_path, headers, body)
    buffered = await read_ahead(body, MAX_MANIFEST_BYTES)
    return BackendRequest(request.method, request.raw_path, headers, buffered, buffered.is_whole)


def _cut_off(request: web.Request) -> asyncio.CancelledError:
    """Abort the connection, so that no short response looks whole; return the error that ends the handler."""
    if request.transport is not None:
        request.transport.abort()
    return asyncio.CancelledError()
