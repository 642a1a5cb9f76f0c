"""One pull, top to bottom: what a client that asks for a manifest gets, and after what.

Below it, what a push does that comes by: ours, and somebody else's.
"""

from __future__ import annotations

import asyncio
import re
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
from autoregistry.proxy.pull.pushes import Pushes, error_cause
from autoregistry.settings import LONG_PATIENCE_SECONDS

_DOCKER_VERSION = re.compile(r"docker/(\d+)\.(\d+)")
# Docker whose containerd store gives up on response headers as containerd 2.3 does.
_IMPATIENT_DOCKER = (29, 7)

_SERVED = {
    Verdict.UP_TO_DATE: Answer.UP_TO_DATE,
    Verdict.ONLY_IN_REGISTRY: Answer.ONLY_IN_REGISTRY,
    Verdict.PUSHED_MANUALLY: Answer.PUSHED_MANUALLY,
    Verdict.DOCKER_UNREACHABLE: Answer.DOCKER_UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer: the backend's answer as it is held, or one of our own."""

    answer: Answer
    sentence: str
    held: BackendResponse | None = None


class PullHandler:
    """Answers requests for manifests."""

    def __init__(
        self,
        questions: AsyncDocker,
        backend: Backend,
        sync: Pushes,
        journal: Journal,
        *,
        nonce: str,
        patience: float,
    ) -> None:
        self._questions = questions
        self._backend = backend
        self._sync = sync
        self._journal = journal
        self._nonce = nonce
        self._patience = patience

    async def reply(self, ask: BackendRequest, wanted: Manifest) -> Reply:
        """The reply to a GET or HEAD of a manifest. Raises BackendUnreachable."""
        if self.is_own_push(ask) or _is_existence_check(ask):
            held = await self.asked_by_push(ask)
            return Reply(Answer.OWN_PUSH, "a push asks what is there already", held)
        if isinstance(wanted.reference, Digest):
            return await self._by_digest(ask, wanted.repository, wanted.reference)
        return await self._by_tag(ask, Image(wanted.repository, wanted.reference))

    def is_own_push(self, ask: BackendRequest) -> bool:
        """Whether Docker asks on behalf of a push of ours, which must never wait for itself.

        The daemon repeats the user agent of its API client as `UpstreamClient(...)` in every registry request
        (moby dockerversion/useragent.go).
        """
        return self._nonce in (ask.header(b"user-agent") or "")

    async def _by_tag(self, ask: BackendRequest, image: Image) -> Reply:
        sending = asyncio.ensure_future(self._backend.read(ask))
        try:
            facts = await self._sync.compare(image, self._seen(ask, image, sending))
            # Anybody can ask for any name.
            if facts.registry_digest or facts.docker_identity:
                self._journal.set_pulled(image)
            if answer := _SERVED.get(facts.verdict):
                held = await sending
                return Reply(answer, await self._sentence(facts.verdict, held), held)
        except BaseException:
            await _discard(sending)
            raise
        await _discard(sending)
        if facts.verdict is Verdict.UNREADABLE:
            return Reply(Answer.BACKEND_UNREACHABLE, f"{image}: {facts.verdict.value}")
        if isinstance(facts.local, LocalImage):
            return await self._after_push(ask, image, facts.local.identity, facts.verdict)
        return _refusal(image, f"{facts.stale_because} (and now Docker does not answer)")

    async def _sentence(self, verdict: Verdict, held: BackendResponse) -> str:
        """The verdict's, and for an image that nobody has the likeliest reason."""
        if held.status == 404 and verdict is Verdict.ONLY_IN_REGISTRY:
            builders = await self._questions.call(lambda images: images.builders())
            if isinstance(builders, list) and builders:
                kept = f"builder {builders[0]} keeps its images: docker buildx build --load"
                return f"{verdict.value}; {kept}"
        return verdict.value

    async def _by_digest(self, ask: BackendRequest, repository: str, digest: Digest) -> Reply:
        held = await self._backend.read(ask)
        try:
            return await self._held_or_pushed(ask, held, repository, digest)
        except BaseException:
            await held.close()
            raise

    async def _held_or_pushed(
        self, ask: BackendRequest, held: BackendResponse, repository: str, digest: Digest
    ) -> Reply:
        if held.status < 500 and await self._has(ask, held, repository, digest):
            return Reply(Answer.UP_TO_DATE, "what a digest names never changes", held)
        candidates = await self._questions.tags_with(repository, str(digest))
        if isinstance(candidates, Unreachable):
            return Reply(Answer.DOCKER_UNREACHABLE, Verdict.DOCKER_UNREACHABLE.value, held)
        for image in candidates:
            self._sync.mark_incomplete(repository)
            facts = await self._sync.compare(image)
            if facts.verdict.must_push and isinstance(facts.local, LocalImage):
                await held.close()
                return await self._after_push(ask, image, facts.local.identity, facts.verdict)
        return Reply(Answer.ONLY_IN_REGISTRY, Verdict.ONLY_IN_REGISTRY.value, held)

    async def _after_push(
        self, ask: BackendRequest, image: Image, identity: str, because: Verdict
    ) -> Reply:
        flight = self._sync.flight(image, identity, because)
        await asyncio.wait({flight}, timeout=self._patience_for(ask))
        if not flight.done():
            return Reply(Answer.PUSHING, f"Docker is still pushing {image}, ask again")
        outcome = flight.result()
        if isinstance(outcome.error, BackendUnreachable):
            raise outcome.error
        if outcome.error is not None:
            return _refusal(image, outcome.error.message)
        return Reply(Answer.PUSHED, f"{because.value}: {outcome}", await self._backend.read(ask))

    async def own_push(self, ask: BackendRequest, repository: str) -> BackendResponse:
        """Send an upload of our own push on. Docker hides the backend's reason for a 5xx, so it is noted here."""
        held = await self._backend.send(ask)
        if held.status >= 500 and (cause := error_cause(await held.buffer())):
            self._sync.upload_failed(repository, cause)
        return held

    async def own_manifest(self, ask: BackendRequest, image: Image) -> BackendResponse | None:
        """Let our own push set its tag; None where somebody else has, while it was under way."""
        async with self._sync.own_push(image) as may_set:
            return await self.own_push(ask, image.repository) if may_set else None

    async def asked_by_push(self, ask: BackendRequest) -> BackendResponse:
        """What is there already. The unreadable counts as missing: the containerd store gives up over a 500."""
        held = await self._backend.read(ask)
        if ask.method == "HEAD" and held.status >= 500:
            held.set_not_found()
        return held

    async def blob(self, ask: BackendRequest, repository: str) -> BackendResponse:
        """A part of an image, which the registry has, or has lost (killed while it wrote; cleaned up by hand)."""
        held = await self._backend.send(ask)
        if held.status == 404 or held.status >= 500:
            self._sync.mark_incomplete(repository)
        return held

    async def hand_push(self, ask: BackendRequest, image: Image) -> BackendResponse:
        """Send somebody else's upload of a manifest on, and note what Docker had at that moment."""
        local = await self._questions.inspect(image)
        async with self._sync.manual_push(image):
            held = await self._backend.send(ask)
            if held.status < 300:
                self._sync.record_manual_push(image, local, held.digest)
        return held

    async def _seen(
        self, ask: BackendRequest, image: Image, sending: asyncio.Future[BackendResponse]
    ) -> RegistryState:
        """What the registry has, read off the held answer where it says so."""
        held = await sending
        if ask.accepts_every_manifest:
            if held.status == 200 and held.digest:
                return RegistryImage(held.digest)
            if held.status == 404:
                return None
        return await self._backend.ask(image.repository, image.tag)

    async def _has(
        self, ask: BackendRequest, held: BackendResponse, repository: str, digest: Digest
    ) -> bool:
        if held.status != 404:
            return True
        # registry:2 also says 404 where Accept lacks the type of what it has.
        return not ask.accepts_every_manifest and isinstance(
            await self._backend.ask(repository, str(digest)), RegistryImage
        )

    def _patience_for(self, ask: BackendRequest) -> float:
        agent = ask.header(b"user-agent") or ""
        version = _DOCKER_VERSION.search(agent)
        impatient_docker = version and (int(version[1]), int(version[2])) >= _IMPATIENT_DOCKER
        is_impatient = "containerd/" in agent or impatient_docker
        return self._patience if is_impatient else LONG_PATIENCE_SECONDS


def _refusal(image: Image, cause: str) -> Reply:
    return Reply(Answer.PUSH_FAILED, f"Docker's newer {image} could not be pushed: {cause}")


def _is_existence_check(ask: BackendRequest) -> bool:
    """How a containerd-based pusher asks, before its push, whether the tag is there already.

    It sends exactly one media type and `*/*` (containerd core/remotes/docker/pusher.go); a pull sends four. Any
    answer but 200 or 404 would abort that push.
    """
    types = [part.strip() for part in (ask.header(b"accept") or "").split(",")]
    return ask.method == "HEAD" and len(types) == 2 and types[1] == "*/*" and types[0] != "*/*"


async def _discard(sending: asyncio.Future[BackendResponse]) -> None:
    """Let go of an answer that will not be used, however far it is."""
    sending.cancel()
    with suppress(asyncio.CancelledError, AutoregistryError):
        await (await sending).close()
