"""One pull, from top to bottom: the reply to a client that asks for a manifest, and the blobs that it reads then."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass

from autoregistry.decision import LocalImage, RegistryImage, RegistryState, Unreachable, Verdict
from autoregistry.errors import AutoregistryError, BackendUnreachable
from autoregistry.events import Answer
from autoregistry.names import Digest, Image, Manifest
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.backend.messages import BackendRequest, BackendResponse
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes
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


class PullHandler:
    """Replies to requests for manifests."""

    def __init__(
        self,
        docker: AsyncDocker,
        backend: Backend,
        pushes: Pushes,
        journal: Journal,
        *,
        patience: float,
    ) -> None:
        self._docker = docker
        self._backend = backend
        self._pushes = pushes
        self._journal = journal
        self._patience = patience
        self._put_off: dict[Image, float] = {}
        """Images that Docker has reported without answering since, and when a client first asked for them."""

    async def reply(self, request: BackendRequest, manifest: Manifest) -> Reply:
        """Return the reply to a GET or HEAD of a manifest. Raises BackendUnreachable."""
        if isinstance(manifest.reference, Digest):
            return await self._by_digest(request, manifest.repository, manifest.reference)
        return await self._by_tag(request, Image(manifest.repository, manifest.reference))

    async def _by_tag(self, request: BackendRequest, image: Image) -> Reply:
        sending = asyncio.ensure_future(self._backend.read(request))
        try:
            registry = self._registry_state(request, image, sending)
            comparison = await self._pushes.compare(image, registry)
            # Any client can ask for any name; only images that exist are recorded.
            if comparison.registry_digest or comparison.docker_identity:
                self._journal.set_pulled(image)
            if answer := _SERVED.get(comparison.verdict):
                response = await sending
                return Reply(answer, await self._sentence(comparison.verdict, response), response)
        except BaseException:
            await _discard(sending)
            raise
        await _discard(sending)
        if comparison.verdict is Verdict.UNREADABLE:
            return Reply(Answer.BACKEND_UNREACHABLE, f"{image}: {comparison.verdict.value}")
        if isinstance(comparison.local, LocalImage):
            return await self._after_push(
                request, image, comparison.local.identity, comparison.verdict
            )
        if (cause := comparison.record.stale_because) is not None:
            return _push_failed(image, f"{cause} (and now Docker does not answer)")
        return await self._wait_for_docker(request, image)

    async def _wait_for_docker(self, request: BackendRequest, image: Image) -> Reply:
        """Wait for Docker, which has reported a newer image and does not answer now.

        While it may only be busy, a client that cannot wait any longer gets 408, and the reason after that.
        """
        arrived = time.monotonic()
        first = self._put_off.setdefault(image, arrived)
        while time.monotonic() - arrived < self._patience_for(request):
            await asyncio.sleep(DOCKER_PAUSE_SECONDS)
            if not isinstance(await self._docker.inspect(image), Unreachable):
                self._put_off.pop(image, None)
                return await self._by_tag(request, image)
        if arrived - first < 2 * self._patience:
            sentence = f"Docker has reported a newer {image} and does not answer yet, try again"
            return Reply(Answer.PUSHING, sentence)
        return _push_failed(image, "Docker has reported it and has not answered since")

    async def _registry_state(
        self, request: BackendRequest, image: Image, sending: asyncio.Future[BackendResponse]
    ) -> RegistryState:
        """Return what the registry has: read from the client's own response if that tells."""
        response = await sending
        if request.accepts_every_manifest:
            if response.status == 200 and response.digest:
                return RegistryImage(response.digest)
            if response.status == 404:
                return None
        return await self._backend.state(image.repository, image.tag)

    async def _sentence(self, verdict: Verdict, response: BackendResponse) -> str:
        """Return the verdict's sentence, and for an image that is nowhere the likeliest reason."""
        if response.status == 404 and verdict is Verdict.ONLY_IN_REGISTRY:
            builders = await self._docker.builders()
            if isinstance(builders, list) and builders:
                reason = f"builder {builders[0]} keeps its images: docker buildx build --load"
                return f"{verdict.value}; {reason}"
        return verdict.value

    async def _by_digest(self, request: BackendRequest, repository: str, digest: Digest) -> Reply:
        response = await self._backend.read(request)
        try:
            if response.status < 500 and await self._exists(request, response, repository, digest):
                return Reply(Answer.UP_TO_DATE, "the content of a digest never changes", response)
            return await self._push_by_digest(request, response, repository, digest)
        except BaseException:
            await response.close()
            raise

    async def _exists(
        self, request: BackendRequest, response: BackendResponse, repository: str, digest: Digest
    ) -> bool:
        if response.status != 404:
            return True
        # registry:2 also responds with 404 if Accept lacks the type of what it has.
        return not request.accepts_every_manifest and isinstance(
            await self._backend.state(repository, str(digest)), RegistryImage
        )

    async def _push_by_digest(
        self, request: BackendRequest, response: BackendResponse, repository: str, digest: Digest
    ) -> Reply:
        """Push a tag whose image in Docker has this digest; without one, reply with the registry's response."""
        candidates = await self._docker.tags_with(repository, str(digest))
        if isinstance(candidates, Unreachable):
            return Reply(Answer.DOCKER_UNREACHABLE, Verdict.DOCKER_UNREACHABLE.value, response)
        for image in candidates:
            self._pushes.mark_incomplete(repository)
            comparison = await self._pushes.compare(image)
            if comparison.verdict.must_push and isinstance(comparison.local, LocalImage):
                await response.close()
                return await self._after_push(
                    request, image, comparison.local.identity, comparison.verdict
                )
        return Reply(Answer.ONLY_IN_REGISTRY, Verdict.ONLY_IN_REGISTRY.value, response)

    async def _after_push(
        self, request: BackendRequest, image: Image, identity: str, because: Verdict
    ) -> Reply:
        push = self._pushes.flight(image, identity, because)
        await asyncio.wait({push}, timeout=self._patience_for(request))
        if not push.done():
            return Reply(Answer.PUSHING, f"Docker is still pushing {image}, try again")
        result = push.result()
        if isinstance(result.error, BackendUnreachable):
            raise result.error
        if result.error is not None:
            return _push_failed(image, result.error.message)
        response = await self._backend.read(request)
        return Reply(Answer.PUSHED, f"{because.value}: {result}", response)

    def _patience_for(self, request: BackendRequest) -> float:
        agent = request.header(b"user-agent") or ""
        version = _DOCKER_VERSION.search(agent)
        impatient_docker = version and (int(version[1]), int(version[2])) >= _IMPATIENT_DOCKER
        is_impatient = "containerd/" in agent or impatient_docker
        return self._patience if is_impatient else LONG_PATIENCE_SECONDS

    async def blob(self, request: BackendRequest, repository: str) -> BackendResponse:
        """Return the response for a blob; record a lost one (the registry was killed in a write, or cleaned up)."""
        response = await self._backend.send(request)
        if response.status == 404 or response.status >= 500:
            self._pushes.mark_incomplete(repository)
        return response


def _push_failed(image: Image, cause: str) -> Reply:
    return Reply(Answer.PUSH_FAILED, f"Docker's newer {image} could not be pushed: {cause}")


async def _discard(sending: asyncio.Future[BackendResponse]) -> None:
    """Close a response that will not be used, even if it has not arrived yet."""
    sending.cancel()
    with suppress(asyncio.CancelledError, AutoregistryError):
        await (await sending).close()
