"""HTTP in: checks of a request, its kind, and the response's way back.

A registry request that is neither part of a pull nor of a push goes to the backend as it came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import httpx
from aiohttp import web

from autoregistry.errors import BackendUnreachable, ListenFailed
from autoregistry.events import Answer, Emit, Notice, PullAnswered, PullSeen
from autoregistry.names import Blob, Image, Manifest, Target, parse_target
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.backend.response import BackendResponse
from autoregistry.proxy.backend.transport import NO_BODY, end_to_end, raw_request
from autoregistry.proxy.http import admission
from autoregistry.proxy.http.classify import Kind, classify, push_id
from autoregistry.proxy.http.connections import GuardedServer, connection_of
from autoregistry.proxy.http.request_body import ClientBody, ManifestBuffer
from autoregistry.proxy.http.responses import ForwardedResponse, OwnResponse
from autoregistry.proxy.pull.handler import PullHandler, Reply
from autoregistry.proxy.pull.uploads import Uploads
from autoregistry.settings import Settings

# How long a stop waits for the pushes and the responses in progress, together.
SHUTDOWN_SECONDS = 10.0
MAX_CUT_OFF_NOTICES = 10
ACCEPT_BACKLOG = 1024

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""One of the proxy's own endpoints. None: the request is for the registry after all."""


@dataclass
class Server:
    """The listening side of one proxy."""

    settings: Settings
    backend: Backend
    pulls: PullHandler
    uploads: Uploads
    emit: Emit
    endpoints: dict[tuple[str, str], Endpoint]
    nonce: str
    """In the user agent of our own pushes."""

    def __post_init__(self) -> None:
        self._hosts = admission.our_hosts(self.settings)
        self._idle = self.settings.limits.idle_seconds
        self._manifests = ManifestBuffer()
        self._server = GuardedServer(self._handle, self.settings.limits)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)

    async def start(self) -> None:
        """Listen. Raises ListenFailed."""
        await self._runner.setup()
        for address in self.settings.listen:
            site = web.TCPSite(self._runner, address.host, address.port, backlog=ACCEPT_BACKLOG)
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
        unfinished = await self._server.wait_until_idle(seconds)
        for request in unfinished[:MAX_CUT_OFF_NOTICES]:
            self.emit(Notice(f"{request}  its response was cut off, the client will try again"))
        if (more := len(unfinished) - MAX_CUT_OFF_NOTICES) > 0:
            self.emit(Notice(f"and {more} more"))
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            response = await self._respond(request)
        except OwnResponse as exc:
            response = exc.response()
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
        await admission.check_expectation(request)
        admission.check_sender(request, self._hosts)
        if (response := await self._own_endpoint(request)) is not None:
            return response
        target = parse_target(request.raw_path)
        if target is None:
            sentence = "not a registry request: those begin with /v2/"
            raise OwnResponse(Answer.NOT_A_REGISTRY_REQUEST, sentence)
        if not self.settings.names.serves_namespace(target.namespace):
            raise OwnResponse(Answer.NOT_MIRRORED, f"{target.namespace} is not mirrored here")
        admission.check_framing(request)
        return await self._serve(request, target)

    async def _own_endpoint(self, request: web.Request) -> web.StreamResponse | None:
        endpoint = self.endpoints.get((request.method, request.raw_path.partition("?")[0]))
        if endpoint is None:
            return None
        seconds = self._idle if request.method != "GET" else None  # the event stream has no end
        try:
            async with asyncio.timeout(seconds):
                return await endpoint(request)
        except TimeoutError:
            sentence = f"no response within {self._idle:g} s"
            raise OwnResponse(Answer.CLIENT_STALLED, sentence) from None

    async def _serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        outgoing = raw_request(request.method, request.raw_path, end_to_end(request.raw_headers))
        agent, accept = (outgoing.headers.get(name, "") for name in ("user-agent", "accept"))
        kind = classify(outgoing.method, target, agent, accept, nonce=self.nonce)
        is_manifest = isinstance(target, Manifest)
        body = ClientBody(request.content, self._idle, is_whole=is_manifest)
        reading: AbstractAsyncContextManager[httpx.AsyncByteStream]
        if request.body_exists and is_manifest:
            reading = self._manifests.whole(body, is_own=self.nonce in agent)
        else:
            reading = nullcontext(body if request.body_exists else NO_BODY)
        try:
            async with reading as outgoing.stream:
                return await self._respond_to(kind, request, target, outgoing)
        except BackendUnreachable as exc:
            raise body.fault or OwnResponse(Answer.BACKEND_UNREACHABLE, exc.message) from exc

    async def _respond_to(
        self, kind: Kind, request: web.Request, target: Target, outgoing: httpx.Request
    ) -> web.StreamResponse:
        flight_id = push_id(outgoing.headers.get("user-agent", ""), nonce=self.nonce)
        match kind, target:
            case Kind.PULL, Manifest():
                return await self._pull(request, target, self.pulls.reply(outgoing, target))
            case Kind.PUSH_CHECK, Manifest():
                return await self._pull(request, target, self.uploads.check_manifest(outgoing))
            case Kind.PUSH_CHECK, _:
                response = await self.uploads.check(outgoing)
            case Kind.BLOB_READ, Blob(repository):
                if admission.host_name(request) == self.settings.container:
                    # The client is on Docker's network, and can reach the backend as well as the proxy.
                    return await self._redirect(request, outgoing, repository)
                response = await self.pulls.blob(outgoing, repository)
            case Kind.OWN_UPLOAD, _:
                response = await self.uploads.own_upload(outgoing, flight_id)
            case Kind.OWN_TAG, Manifest(repository, str(tag)):
                image = Image(repository, tag)
                accepted = await self.uploads.own_tag(outgoing, image, flight_id)
                if accepted is None:
                    sentence = (
                        "another client has pushed it in the meantime, or this push has ended"
                    )
                    raise OwnResponse(Answer.PUSH_FAILED, sentence)
                response = accepted
            case Kind.MANUAL_PUSH, Manifest(repository, str(tag)):
                client = admission.client_name(request)
                response = await self.uploads.manual_push(outgoing, Image(repository, tag), client)
            case _:
                response = await self.backend.send(outgoing)
        return await self._forward(request, response)

    async def _pull(
        self, request: web.Request, manifest: Manifest, replying: Awaitable[Reply]
    ) -> web.StreamResponse:
        began, client = time.monotonic(), admission.client_name(request)
        self.emit(PullSeen(manifest, client))
        try:
            reply = await replying
        except BackendUnreachable as exc:
            reply = Reply(Answer.BACKEND_UNREACHABLE, exc.message)
        status = reply.response.status if reply.response else reply.answer.status or 0
        seconds = time.monotonic() - began
        self.emit(PullAnswered(manifest, client, reply.answer, status, reply.sentence, seconds))
        if reply.response is None:
            raise OwnResponse(reply.answer, reply.sentence)
        return await self._forward(request, reply.response, reply.answer)

    async def _redirect(
        self, request: web.Request, outgoing: httpx.Request, repository: str
    ) -> web.StreamResponse:
        """Redirect to the backend if it has the blob. Without this check the proxy would not see a lost one."""
        check = raw_request("HEAD", request.raw_path, outgoing.headers.raw)
        async with await self.pulls.blob(check, repository) as response:
            if response.status < 400:
                location = f"{self.backend.url}{request.raw_path}"
                sentence = "the registry behind has it"
                raise OwnResponse(Answer.REDIRECTED, sentence, location=location)
        return await self._forward(request, await self.backend.send(outgoing))

    async def _forward(
        self, request: web.Request, response: BackendResponse, answer: Answer | None = None
    ) -> web.StreamResponse:
        async with response:
            forwarded = ForwardedResponse(response, answer)
            if "Upgrade" in request.headers:
                forwarded.force_close()  # aiohttp drops what was sent behind it
            await forwarded.prepare(request)
            try:
                if request.method != "HEAD":
                    client = connection_of(request)
                    await response.forward_body(forwarded.write, client, self._idle)
                async with asyncio.timeout(self._idle):
                    await forwarded.write_eof()
            except (BackendUnreachable, TimeoutError):
                raise _cut_off(request) from None
            return forwarded


def _cut_off(request: web.Request) -> asyncio.CancelledError:
    """Abort the connection, so that no short response looks whole; return the error that ends the handler."""
    if request.transport is not None:
        request.transport.abort()
    return asyncio.CancelledError()
