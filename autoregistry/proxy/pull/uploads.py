"""The requests of a push, ours or another client's: uploads, tags, and checks of what the registry has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx

from autoregistry.events import Answer, ManualPushSeen
from autoregistry.names import Image
from autoregistry.proxy.backend.response import BackendResponse, error_cause
from autoregistry.proxy.pull.core import Core
from autoregistry.proxy.pull.handler import Reply


@dataclass(frozen=True, slots=True)
class Uploads:
    """Sends the requests of pushes to the backend, and records what they change."""

    core: Core

    async def check_manifest(self, request: httpx.Request) -> Reply:
        """Return what the registry has under a manifest's name, as `check`."""
        sentence = "a push checks what the registry has"
        return Reply(Answer.OWN_PUSH, sentence, await self.check(request))

    async def check(self, request: httpx.Request) -> BackendResponse:
        """Return what the registry has. Unreadable counts as missing, as the containerd store gives up on a 500."""
        response = await self.core.backend.read(request)
        if request.method == "HEAD" and response.status >= 500:
            response.set_not_found()
        return response

    async def own_upload(self, request: httpx.Request, push_id: str) -> BackendResponse:
        """Send an upload of our own push. Docker hides the registry's reason for a 5xx, so it is recorded here."""
        response = await self.core.backend.send(request)
        if response.status >= 500 and (cause := error_cause(await response.buffer())):
            self.core.pushes.upload_failed(push_id, cause)
        return response

    async def own_tag(
        self, request: httpx.Request, image: Image, push_id: str
    ) -> BackendResponse | None:
        """Let our own push set its tag. Return None if it has ended, or if another client has set the tag meanwhile."""
        async with self.core.pushes.own_push(image, push_id) as may_set:
            return await self.own_upload(request, push_id) if may_set else None

    async def manual_push(
        self, request: httpx.Request, image: Image, client: str
    ) -> BackendResponse:
        """Let another client's push set a tag, and record which image Docker had at that moment.

        Shielded: the registry may have accepted the manifest by the time that the client closes its connection.
        """
        pushing = asyncio.create_task(self._push_manually(request, image, client))
        try:
            return await asyncio.shield(pushing)
        except asyncio.CancelledError:
            await asyncio.wait({pushing})
            if pushing.exception() is None:
                await pushing.result().close()
            raise

    async def _push_manually(
        self, request: httpx.Request, image: Image, client: str
    ) -> BackendResponse:
        local = await self.core.docker.inspect(image)
        async with self.core.pushes.manual_push(image):
            response = await self.core.backend.send(request)
            if response.status >= 300:
                return response
            self.core.pushes.record_manual_push(image, local, response.digest)
        self.core.emit(ManualPushSeen(image, client, response.digest or ""))
        return response
