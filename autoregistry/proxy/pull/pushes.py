"""Flights: bring the registry to what Docker has.

One flight for a tag and an image of Docker's, joined by all who want just that; it belongs to nobody, so it
survives the clients that asked for it. Flights of one tag run one after the other: two pushes of a tag at once
leave the registry with half-written links.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from autoregistry.decision import LocalImage, RegistryImage, Unreachable, Verdict
from autoregistry.engine.progress import OnProgress, Progress
from autoregistry.errors import (
    AutoregistryError,
    BackendUnreachable,
    DockerUnreachable,
    PushRefused,
)
from autoregistry.events import Emit, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.pull.comparison import Comparison, Facts
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import CUT_OFF, Journal

MAX_CAUSE = 300


@dataclass(frozen=True, slots=True)
class PushResult:
    """How a flight ended."""

    pushed_bytes: int
    seconds: float
    error: AutoregistryError | None = None
    """Why the registry still lacks Docker's image; None where it has it."""

    def __str__(self) -> str:
        if not self.pushed_bytes:
            return f"pushed in {self.seconds:.1f} s, its layers were there"
        return f"pushed {self.pushed_bytes / 1e6:.1f} MB in {self.seconds:.1f} s"


def one_line(text: str) -> str:
    """A cause as it may stand in a status line: printable, one line, not endless."""
    plain = "".join(c if c.isprintable() and c.isascii() else " " for c in text)
    return " ".join(plain.split())[:MAX_CAUSE]


def registrys_cause(error: bytes) -> str | None:
    """Why the registry failed: distribution puts a driver's error into `detail`, as a text or as an errno."""
    try:
        first = json.loads(error)["errors"][0]
        detail = first.get("detail")
        if isinstance(detail, str):
            return detail.rpartition(": ")[2]
        if isinstance(detail, dict):
            return os.strerror(int(detail["Enclosed"]["Err"])).lower()
        return str(first["message"])
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None


# Somebody who rebuilds faster than Docker pushes gets a reason, not an endless wait.
MAX_PUSHES = 3
PROGRESS_SECONDS = 0.2
OVERTAKEN_SECONDS = 0.05
# containerd asks by HEAD, and after a 403 by GET to learn the reason: both get the same one.
FAILURE_SECONDS = 3.0


class Pushes:
    """All flights of one proxy."""

    def __init__(
        self, questions: AsyncDocker, backend: Backend, journal: Journal, emit: Emit
    ) -> None:
        self._questions = questions
        self._backend = backend
        self._journal = journal
        self._emit = emit
        self._flights: dict[tuple[Image, str], asyncio.Task[PushResult]] = {}
        self._refusals: dict[str, str] = {}
        self._comparison = Comparison(questions, backend, journal)
        self._overtaken: set[Image] = set()
        self._by_hand: Counter[Image] = Counter()
        self._turns: WeakValueDictionary[Image, asyncio.Lock] = WeakValueDictionary()
        self._puts: WeakValueDictionary[Image, asyncio.Lock] = WeakValueDictionary()

    async def compare(
        self, image: Image, registry: Awaitable[RegistryImage | None] | None = None
    ) -> Facts:
        """What both stores have (`facts.py`); a tag that is seen to be stale no more is so from now on, and told.

        Raises BackendUnreachable.
        """
        facts = await self._comparison.of(image, registry)
        # A flight may have set the mark after we asked; it takes its own mark away.
        if facts.is_stale_no_more and image not in self.in_flight:
            self._journal.in_step(image)
            if facts.verdict is Verdict.UP_TO_DATE:  # a push that was taken for failed had arrived
                self._journal.set_by_us(image)
                self._finished(image, facts, 0, 0.0)
        return facts

    def flight(self, image: Image, identity: str, because: Verdict) -> asyncio.Task[PushResult]:
        """Join the flight that brings this image of Docker's to the registry, or start it."""
        key = (image, identity)
        if key not in self._flights:
            self._flights[key] = task = asyncio.create_task(
                self._fly(image, because), name=f"push {image}"
            )
            task.add_done_callback(lambda ended: self._land(key, ended))
        return self._flights[key]

    def _land(self, key: tuple[Image, str], ended: asyncio.Task[PushResult]) -> None:
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
        self._comparison.found_incomplete(repository)

    @contextmanager
    def set_by_hand(self, image: Image) -> Iterator[None]:
        """While somebody else sets this tag; a push of ours waits until it is known whether that stands."""
        self._by_hand[image] += 1
        try:
            yield
        finally:
            self._by_hand[image] -= 1
            self._by_hand += Counter()  # forgets those that are zero

    def overtaken(self, image: Image) -> None:
        """Somebody else has set this tag: a push of ours that is under way must not undo that."""
        if image in self.in_flight:
            self._overtaken.add(image)

    def put(self, image: Image) -> asyncio.Lock:
        """Held while a tag is set, by anybody: who came second stands, and no link is written twice at once."""
        return self._puts.setdefault(image, asyncio.Lock())

    def is_overtaken(self, image: Image) -> bool:
        """Whether our push must not set this tag any more."""
        return image in self._overtaken or image in self._by_hand

    async def settle(self, seconds: float) -> list[Image]:
        """Wait for the flights under way, so long at most; those that are left."""
        if self._flights:
            await asyncio.wait(list(self._flights.values()), timeout=seconds)
        return self.in_flight

    async def _fly(self, image: Image, because: Verdict) -> PushResult:
        async with self._turns.setdefault(image, asyncio.Lock()):
            began = time.monotonic()
            try:
                pushed_bytes = await self._until_in_step(image, because, began)
            except AutoregistryError as exc:
                cause = self._refusals.pop(image.repository, exc.message)
                exc.message = one_line(cause)
                if not isinstance(exc, BackendUnreachable) and not self.is_overtaken(image):
                    self._journal.set_stale(image, exc.message)
                self._emit(PushFailed(image, exc.message))
                return PushResult(0, time.monotonic() - began, exc)
            return PushResult(pushed_bytes, time.monotonic() - began)

    async def _until_in_step(self, image: Image, because: Verdict, began: float) -> int:
        """Push until both stores agree; the bytes that moved. Both are asked again after each push."""
        pushes, pushed_bytes, pushed_identity, pushed_digest = 0, 0, None, None
        while True:
            self._overtaken.discard(image)
            facts = await self.compare(image)
            if image in self._overtaken:
                continue  # what was compared is not there any more
            if not isinstance(facts.local, LocalImage) or not facts.verdict.must_push:
                break
            if pushed_identity == facts.local.identity:
                if facts.registry and facts.registry.digest == pushed_digest:
                    break  # a daemon too old to list the children of an incomplete index
                if self.is_overtaken(image):
                    # Theirs is there, and not yet written down.
                    await asyncio.sleep(OVERTAKEN_SECONDS)
                    continue
                raise PushRefused(await self._why_not_there(image, facts))
            if pushes == MAX_PUSHES:
                raise PushRefused("Docker's image kept changing while it was pushed")
            self._journal.set_stale(image, CUT_OFF)
            self._refusals.pop(image.repository, None)
            self._comparison.made_whole(image.repository)
            self._emit(PushStarted(image, facts.local.identity, because.value))
            pushes += 1
            try:
                progress = await self._questions.push(image, self._reporter(image))
            except PushRefused:
                if not self.is_overtaken(image):
                    raise
                continue
            pushed_bytes += progress.done_bytes
            pushed_identity, pushed_digest = facts.local.identity, progress.digest
        if isinstance(facts.local, Unreachable):
            raise DockerUnreachable("Docker went away before its push was confirmed")
        self._journal.in_step(image)
        if pushes or (facts.stale_because and facts.verdict is Verdict.UP_TO_DATE):
            if facts.verdict is not Verdict.PUSHED_BY_HAND:
                self._journal.set_by_us(image)
            self._finished(image, facts, pushed_bytes, time.monotonic() - began)
        return pushed_bytes

    def _finished(self, image: Image, facts: Facts, pushed_bytes: int, seconds: float) -> None:
        identity = facts.local.identity if isinstance(facts.local, LocalImage) else ""
        digest = facts.registry.digest if facts.registry else ""
        self._emit(PushFinished(image, identity, digest, pushed_bytes, seconds))

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
