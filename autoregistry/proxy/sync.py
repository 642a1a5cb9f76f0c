"""Flights: bring the registry to what Docker has.

One flight for a tag and an image of Docker's, joined by all who want just that; it belongs to nobody, so it
survives the clients that asked for it. Flights of one tag run one after the other: two pushes of a tag at once
leave the registry with half-written links.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from autoregistry.decision import LocalImage, RegistryImage, Unreachable, Verdict, decide
from autoregistry.engine.images import OnProgress, Progress
from autoregistry.errors import (
    AutoregistryError,
    BackendUnreachable,
    DockerUnreachable,
    PushRefused,
)
from autoregistry.events import Emit, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image
from autoregistry.proxy.backend import Backend
from autoregistry.proxy.journal import UNKNOWN, Journal
from autoregistry.proxy.questions import Found, Questions

# Somebody who rebuilds faster than Docker pushes gets a reason, not an endless wait.
MAX_PUSHES = 3
# distribution writes its links in place, and the tags of a repository share those of their parts: two pushes at once,
# and one is told `blob unknown` of a layer that is there (measured with 2.8.2 on a busy disk). It is made again.
MAX_REPEATS = 2
PROGRESS_SECONDS = 0.2
# containerd asks by HEAD, and after a 403 by GET to learn the reason: both get the same one.
FAILURE_SECONDS = 3.0
MAX_CAUSE = 300
# Any client can name repositories; a mark too few costs a push that comes one pull later.
MAX_INCOMPLETE = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """What both stores have under one name, and what that means."""

    local: Found
    registry: RegistryImage | None
    verdict: Verdict
    stale_because: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a flight ended."""

    pushed_bytes: int
    seconds: float
    error: AutoregistryError | None = None
    """Why the registry still lacks Docker's image; None where it has it."""

    def __str__(self) -> str:
        if not self.pushed_bytes:
            return f"pushed in {self.seconds:.1f} s, its layers were there"
        return f"pushed {self.pushed_bytes / 1e6:.1f} MB in {self.seconds:.1f} s"


class Sync:
    """All flights of one proxy."""

    def __init__(
        self, questions: Questions, backend: Backend, journal: Journal, emit: Emit
    ) -> None:
        self._questions = questions
        self._backend = backend
        self._journal = journal
        self._emit = emit
        self._flights: dict[tuple[Image, str], asyncio.Task[Outcome]] = {}
        self._refusals: dict[str, str] = {}
        self._incomplete: set[str] = set()
        self._pushing: dict[Image, str] = {}
        self.overtaken: set[Image] = set()
        self._turns: WeakValueDictionary[Image, asyncio.Lock] = WeakValueDictionary()

    async def compare(
        self, image: Image, registry: Awaitable[RegistryImage | None] | None = None
    ) -> Facts:
        """Ask both stores at the same time, and only as deep as it takes. Raises BackendUnreachable."""
        asked = self._backend.ask(image.repository, image.tag) if registry is None else registry
        local, remote = await asyncio.gather(self._questions.inspect(image), asked)
        if isinstance(local, LocalImage) and remote and local.identity != remote.digest:
            if local.is_index:
                local = await self._questions.inspect(image, children=True)
            else:
                behind = await self._backend.configs_behind(image.repository, remote.digest)
                remote = replace(remote, configs=behind)
        memory = self._journal.memory(image)
        if memory.docker_had == UNKNOWN and isinstance(local, LocalImage):
            self._journal.set_by_hand(image, local.identity)
            memory = replace(memory, docker_had=local.identity)
        memory = replace(memory, incomplete=image.repository in self._incomplete)
        verdict = decide(local, remote, memory)
        # A flight may have set the mark after we asked; it takes its own mark away.
        if verdict is Verdict.UP_TO_DATE and memory.stale_because and image not in self.in_flight:
            self._journal.in_step(image)
        return Facts(local, remote, verdict, memory.stale_because)

    def flight(self, image: Image, identity: str, because: Verdict) -> asyncio.Task[Outcome]:
        """Join the flight that brings this image of Docker's to the registry, or start it."""
        key = (image, identity)
        if key not in self._flights:
            self._flights[key] = task = asyncio.create_task(
                self._fly(image, because), name=f"push {image}"
            )
            task.add_done_callback(lambda ended: self._land(key, ended))
        return self._flights[key]

    def _land(self, key: tuple[Image, str], ended: asyncio.Task[Outcome]) -> None:
        failed = ended.cancelled() or ended.exception() or ended.result().error
        if failed:
            asyncio.get_running_loop().call_later(FAILURE_SECONDS, self._flights.pop, key)
        else:
            del self._flights[key]

    @property
    def in_flight(self) -> list[Image]:
        return [image for (image, _), task in self._flights.items() if not task.done()]

    def refused(self, repository: str, cause: str) -> None:
        """The backend failed an upload to this repository; Docker will only say that it did."""
        self._refusals[repository] = cause

    def found_incomplete(self, repository: str) -> None:
        """The registry could not give a part of what a tag of this repository names: the next pull has it pushed."""
        if len(self._incomplete) >= MAX_INCOMPLETE:
            self._incomplete.clear()
        self._incomplete.add(repository)

    def overtake(self, image: Image, digest: str) -> None:
        """Somebody else has set this tag: a push of ours that is under way must not undo that."""
        if self._pushing.get(image, digest) != digest:
            self.overtaken.add(image)

    async def settle(self, seconds: float) -> list[Image]:
        """Wait for the flights under way, so long at most; those that are left."""
        if self._flights:
            await asyncio.wait(list(self._flights.values()), timeout=seconds)
        return self.in_flight

    async def _fly(self, image: Image, because: Verdict) -> Outcome:
        async with self._turns.setdefault(image, asyncio.Lock()):
            began = time.monotonic()
            try:
                pushed_bytes = await self._until_in_step(image, because, began)
            except AutoregistryError as exc:
                cause = self._refusals.pop(image.repository, exc.message)
                exc.message = _one_line(cause)
                if not isinstance(exc, BackendUnreachable):
                    self._journal.set_stale(image, exc.message)
                self._emit(PushFailed(image, exc.message))
                return Outcome(0, time.monotonic() - began, exc)
            return Outcome(pushed_bytes, time.monotonic() - began)

    async def _until_in_step(self, image: Image, because: Verdict, began: float) -> int:
        """Push until both stores agree; the bytes that moved. Both are asked again after each push."""
        pushed_bytes, pushed_identity, pushed_digest = 0, None, None
        pushes, repeats = 0, MAX_REPEATS
        while pushes <= MAX_PUSHES:
            facts = await self.compare(image)
            if not isinstance(facts.local, LocalImage) or not facts.verdict.must_push:
                break
            if pushed_identity == facts.local.identity:
                if facts.registry and facts.registry.digest == pushed_digest:
                    break  # a daemon too old to list the children of an incomplete index
                raise PushRefused(await self._why_not_there(image, facts))
            self._journal.set_stale(image, because.value)
            self._refusals.pop(image.repository, None)
            self._incomplete.discard(image.repository)
            self.overtaken.discard(image)
            self._emit(PushStarted(image, facts.local.identity, because.value))
            has_company = self._has_company(image)
            self._pushing[image] = facts.local.identity
            try:
                progress = await self._questions.push(image, self._reporter(image))
            except PushRefused:
                if image in self.overtaken:
                    pushes += 1
                    continue
                is_named = image.repository in self._refusals
                if is_named or not (has_company or self._has_company(image)) or not repeats:
                    raise
                repeats -= 1
                continue
            finally:
                del self._pushing[image]
            pushes += 1
            pushed_bytes += progress.done_bytes
            pushed_identity, pushed_digest = facts.local.identity, progress.digest
        else:
            raise PushRefused("Docker's image kept changing while it was pushed")
        if isinstance(facts.local, Unreachable):
            raise DockerUnreachable("Docker went away before its push was confirmed")
        if not pushes:
            self._journal.in_step(image)
            return 0
        if facts.verdict is not Verdict.PUSHED_BY_HAND:
            self._journal.set_by_us(image)
        digest = facts.registry.digest if facts.registry else ""
        seconds = time.monotonic() - began
        self._emit(PushFinished(image, pushed_identity or "", digest, pushed_bytes, seconds))
        return pushed_bytes

    def _has_company(self, image: Image) -> bool:
        return any(o.repository == image.repository and o != image for o in self.in_flight)

    async def _why_not_there(self, image: Image, facts: Facts) -> str:
        """Why the registry has something else, or nothing, after a push that went well."""
        if facts.registry is not None:
            return "Docker pushed it, and yet the registry has another image"
        if await self._backend.is_unreadable(image.repository, image.tag):
            return "the registry cannot read what it was given: a file of its own is damaged; build it with any change"
        return "Docker pushed it, and it did not arrive: Docker's localhost is another one; autoregistry up helps"

    def _reporter(self, image: Image) -> OnProgress:
        loop, began, last = asyncio.get_running_loop(), time.monotonic(), 0.0

        def report(progress: Progress) -> None:
            nonlocal last
            if cause := self._refusals.get(image.repository):
                raise PushRefused(cause)  # the classic store would try again for 50 s
            if (now := time.monotonic()) - last < PROGRESS_SECONDS:
                return
            last = now
            event = PushProgress(
                image,
                progress.done_bytes,
                progress.total_bytes,
                progress.done_layers,
                progress.total_layers,
                round(now - began, 1),
            )
            loop.call_soon_threadsafe(self._emit, event)

        return report


def _one_line(text: str) -> str:
    """A cause as it may stand in a status line: printable, one line, not endless."""
    plain = "".join(c if c.isprintable() and c.isascii() else " " for c in text)
    return " ".join(plain.split())[:MAX_CAUSE]
