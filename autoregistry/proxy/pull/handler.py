"""One pull, from top to bottom: the reply to a client that asks for a manifest, and the blobs that it reads then."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from autoregistry.decision import RegistryImage, RegistryState, Unreachable, Verdict
from autoregistry.errors import AutoregistryError, BackendUnreachable
from autoregistry.events import Answer
from autoregistry.names import MANIFEST_TYPES, Digest, Image, Manifest
from autoregistry.proxy.backend.response import BackendResponse
from autoregistry.proxy.pull.comparison import Comparison
from autoregistry.proxy.pull.core import Core
from autoregistry.settings import LONG_PATIENCE_SECONDS

_DOCKER_VERSION = re.compile(r"docker/(\d+)\.(\d+)")
# From this version on Docker's containerd store stops waiting for response headers, as containerd 2.3 does.
_IMPATIENT_DOCKER = (29, 7)

DOCKER_PAUSE_SECONDS = 0.5

_SERVED = {
    Verdict.UP_TO_DATE: Answer.UP_TO_DATE,
    Verdict.ONLY_IN_REGISTRY: Answer.ONLY_IN_REGISTRY,
    Verdict.PUSHED_MANUALLY: Answer.PUSHED_MANUALLY,
    Verdict.DOCKER_UNREACHABLE: Answer.DOCKER_UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a client: the backend's response, or one of our own if `response` is None."""

    answer: Answer
    sentence: str
    response: BackendResponse | None = None


@dataclass(slots=True)
class PullHandler:
    """Replies to requests for manifests."""

    core: Core
    _put_off: dict[Image, float] = field(default_factory=dict)
    """Images that Docker has reported without answering since, and when a client first asked for them."""

    async def reply(self, request: httpx.Request, manifest: Manifest) -> Reply:
        """Return the reply to a GET or HEAD of a manifest. Raises BackendUnreachable."""
        if isinstance(manifest.reference, Digest):
            return await self._by_digest(request, manifest.repository, manifest.reference)
        return await self._by_tag(request, Image(manifest.repository, manifest.reference))

    async def _by_tag(self, request: httpx.Request, image: Image) -> Reply:
        sending = asyncio.ensure_future(self.core.backend.read(request))
        try:
            registry = self._registry_state(request, image, sending)
            comparison = await self.core.pushes.compare(image, registry)
            # Any client can ask for any name; only images that exist are recorded.
            if comparison.registry_digest or comparison.docker_identity:
                self.core.journal.set_pulled(image)
            if answer := _SERVED.get(comparison.verdict):
                response = await sending
                return Reply(answer, await self._sentence(comparison.verdict, response), response)
        except BaseException:
            await _discard(sending)
            raise
        await _discard(sending)
        if comparison.verdict is Verdict.UNREADABLE:
            return Reply(Answer.BACKEND_UNREACHABLE, f"{image}: {comparison.verdict.value}")
        if comparison.docker_identity:
            return await self._after_push(request, image, comparison)
        if (cause := comparison.record.stale_because) is not None:
            return _push_failed(image, f"{cause} (and now Docker does not answer)")
        return await self._wait_for_docker(request, image)

    async def _wait_for_docker(self, request: httpx.Request, image: Image) -> Reply:
        """Wait for Docker, which has reported a newer image and does not answer now.

        While it may only be busy, a client that cannot wait any longer gets 408, and the reason after that.
        """
        arrived = time.monotonic()
        first = self._put_off.setdefault(image, arrived)
        while time.monotonic() - arrived < self._patience_for(request):
            await asyncio.sleep(DOCKER_PAUSE_SECONDS)
            if not isinstance(await self.core.docker.inspect(image), Unreachable):
                self._put_off.pop(image, None)
                return await self._by_tag(request, image)
        if arrived - first < 2 * self.core.settings.patience:
            sentence = f"Docker has reported a newer {image} and does not answer yet, try again"
            return Reply(Answer.PUSHING, sentence)
        return _push_failed(image, "Docker has reported it and has not answered since")

    async def _registry_state(
        self, request: httpx.Request, image: Image, sending: asyncio.Future[BackendResponse]
    ) -> RegistryState:
        """Return what the registry has: read from the client's own response if that tells."""
        response = await sending
        if _accepts_every_manifest(request):
            if response.status == 200 and response.digest:
                return RegistryImage(response.digest)
            if response.status == 404:
                return None
        return await self.core.backend.state(image.repository, image.tag)

    async def _sentence(self, verdict: Verdict, response: BackendResponse) -> str:
        """Return the verdict's sentence, and for an image that is nowhere the likeliest reason."""
        if response.status == 404 and verdict is Verdict.ONLY_IN_REGISTRY:
            builders = await self.core.docker.builders()
            if isinstance(builders, list) and builders:
                reason = f"builder {builders[0]} keeps its images: docker buildx build --load"
                return f"{verdict.value}; {reason}"
        return verdict.value

    async def _by_digest(self, request: httpx.Request, repository: str, digest: Digest) -> Reply:
        """Reply with what the registry has; if it has nothing, push a tag whose image in Docker has this digest."""
        response = await self.core.backend.read(request)
        try:
            is_known = response.status not in (404, *range(500, 600))
            if response.status == 404 and not _accepts_every_manifest(request):
                # registry:2 also responds with 404 if Accept lacks the type of what it has.
                state = await self.core.backend.state(repository, str(digest))
                is_known = isinstance(state, RegistryImage)
            if is_known:
                return Reply(Answer.UP_TO_DATE, "the content of a digest never changes", response)
            candidates = await self.core.docker.tags_with(repository, str(digest))
            if isinstance(candidates, Unreachable):
                return Reply(Answer.DOCKER_UNREACHABLE, Verdict.DOCKER_UNREACHABLE.value, response)
            for image in candidates:
                self.core.pushes.mark_incomplete(repository)
                comparison = await self.core.pushes.compare(image)
                if comparison.verdict.must_push and comparison.docker_identity:
                    await response.close()
                    return await self._after_push(request, image, comparison)
        except BaseException:
            await response.close()
            raise
        return Reply(Answer.ONLY_IN_REGISTRY, Verdict.ONLY_IN_REGISTRY.value, response)

    async def _after_push(
        self, request: httpx.Request, image: Image, comparison: Comparison
    ) -> Reply:
        push = self.core.pushes.flight(image, comparison.docker_identity, comparison.verdict)
        await asyncio.wait({push}, timeout=self._patience_for(request))
        if not push.done():
            return Reply(Answer.PUSHING, f"Docker is still pushing {image}, try again")
        result = push.result()
        if isinstance(result.error, BackendUnreachable):
            raise result.error
        if result.error is not None:
            return _push_failed(image, result.error.message)
        response = await self.core.backend.read(request)
        return Reply(Answer.PUSHED, f"{comparison.verdict.value}: {result}", response)

    def _patience_for(self, request: httpx.Request) -> float:
        agent = request.headers.get("user-agent", "")
        version = _DOCKER_VERSION.search(agent)
        impatient_docker = version and (int(version[1]), int(version[2])) >= _IMPATIENT_DOCKER
        is_impatient = "containerd/" in agent or impatient_docker
        return self.core.settings.patience if is_impatient else LONG_PATIENCE_SECONDS

    async def blob(self, request: httpx.Request, repository: str) -> BackendResponse:
        """Return the response for a blob; record a lost one (the registry was killed in a write, or cleaned up)."""
        response = await self.core.backend.send(request)
        if response.status == 404 or response.status >= 500:
            self.core.pushes.mark_incomplete(repository)
        return response


def _accepts_every_manifest(request: httpx.Request) -> bool:
    accept = request.headers.get("accept", "")
    return all(media_type in accept for media_type in MANIFEST_TYPES)


def _push_failed(image: Image, cause: str) -> Reply:
    return Reply(Answer.PUSH_FAILED, f"Docker's newer {image} could not be pushed: {cause}")


async def _discard(sending: asyncio.Future[BackendResponse]) -> None:
    """Close a response that will not be used, even if it has not arrived yet."""
    sending.cancel()
    with suppress(asyncio.CancelledError, AutoregistryError):
        await (await sending).close()
