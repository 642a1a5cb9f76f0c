"""Pushes by Docker that bring the registry to what Docker has, and the state of each tag.

A flight brings one of Docker's images to one tag. All requests that wait for that image join it. It belongs to no
client, so it survives the clients that asked for it. Flights of one tag run one after the other: two pushes of a tag
at the same time leave half-written links in the registry.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from weakref import WeakValueDictionary

from autoregistry.decision import (
    NOT_READ,
    DockerState,
    LocalImage,
    RegistryImage,
    RegistryState,
    TagRecord,
    Unreachable,
    Unreadable,
    Verdict,
    decide,
)
from autoregistry.engine.streams import OnProgress, Progress
from autoregistry.errors import (
    AutoregistryError,
    BackendUnreachable,
    DockerUnreachable,
    PushRefused,
)
from autoregistry.events import Emit, Notice, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.backend.response import one_line
from autoregistry.proxy.pull.comparison import Comparison, read_both
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import CUT_OFF, NEWER_BUILD, Journal
from autoregistry.settings import PUSH_THREADS

# A flight follows the image through so many builds. Each of them is newer than the one that its clients asked for.
MAX_PUSHES = 3
# A build during a push can make it fail. So many failed pushes are repeated, each for another image of Docker's.
MAX_OVERTAKEN_PUSHES = 20
_MISSING_CONTENT = re.compile(
    r"content digest \S+ not found|blob \S+ not found|layer does not exist"
)
PROGRESS_SECONDS = 0.2
OVERTAKEN_SECONDS = 0.05
# containerd sends HEAD, and after a 403 GET to learn the reason: both get the same one.
FAILURE_SECONDS = 3.0
# Any client can name repositories. A repository too few costs a push that comes one pull later.
MAX_INCOMPLETE = 1000


@dataclass(frozen=True, slots=True)
class PushResult:
    """The result of a flight."""

    pushed_bytes: int
    seconds: float
    error: AutoregistryError | None = None
    """The reason why the registry still lacks Docker's image. None if it has it."""

    def __str__(self) -> str:
        if not self.pushed_bytes:
            return f"pushed in {self.seconds:.1f} s, the registry had its layers"
        return f"pushed {self.pushed_bytes / 1e6:.1f} MB in {self.seconds:.1f} s"


@dataclass(slots=True, weakref_slot=True, eq=False)
class TagState:
    """The requests and flights of one tag that are under way. It lives as long as one of them."""

    flights: dict[str, asyncio.Task[PushResult]] = field(default_factory=dict)
    """By Docker's Id of the image."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client waits for a flight: its push then waits for no place."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the flight that compares and pushes."""
    write: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a push sets the tag: the later push stands, and no link is written twice at once."""
    manual_pushes: int = 0
    """Manual pushes that may still set the tag."""
    was_set_manually: bool = False
    """A manual push has set the tag since a flight last compared it."""

    @property
    def is_overtaken(self) -> bool:
        """Return True while our push must not set the tag."""
        return self.was_set_manually or self.manual_pushes > 0


@dataclass(slots=True)
class _Flight:
    """A flight and the pushes that it has made."""

    id: str
    """Part of the user agent of its pushes, by which their requests are recognised."""
    image: Image
    tag: TagState
    because: Verdict
    began: float = field(default_factory=time.monotonic)
    pushes: int = 0
    failures: int = 0
    """Pushes that failed because Docker's image changed meanwhile."""
    is_retry: bool = False
    """Docker reported missing content for the image that it still has, and is asked to push it once more."""
    upload_error: str = ""
    """The reason why the registry failed an upload of this push. Docker reports only that it failed."""
    pushed_bytes: int = 0
    pushed: tuple[str, str | None] = ("", None)
    """Docker's Id and the registry's digest of the image that was pushed last."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Pushes:
    """Compares tags, has Docker push them, and records in the journal what is known about them."""

    def __init__(self, docker: AsyncDocker, backend: Backend, journal: Journal, emit: Emit) -> None:
        self._docker = docker
        self._backend = backend
        self.journal = journal
        self._emit = emit
        self._tags: WeakValueDictionary[Image, TagState] = WeakValueDictionary()
        self._pushing: dict[str, _Flight] = {}
        """The flights whose pushes are under way, by id. Only their requests may set tags."""
        self._flight_ids = itertools.count(1)
        # One thread is always left for a push that a client waits for.
        self._places = asyncio.Semaphore(PUSH_THREADS - 1)
        self._incomplete: set[str] = set()
        self._conflicts: set[Image] = set()

    def _tag(self, image: Image) -> TagState:
        return self._tags.setdefault(image, TagState())

    async def compare(
        self,
        image: Image,
        registry: Awaitable[RegistryState] | None = None,
        *,
        is_asked: bool = True,
    ) -> Comparison:
        """Compare Docker and the registry, and record what follows. Raises BackendUnreachable.

        `registry` is given when a response of the registry is already on its way. `is_asked` is False for work that no
        client waits for (`decide`).
        """
        while True:
            reported_at = self.journal.record(image).reported_at
            registry = registry or self._backend.state(image.repository, image.tag)
            local, remote = await read_both(image, self._docker, self._backend, registry)
            registry = None
            # What Docker reported meanwhile may be newer than its answer.
            is_current = self.journal.record(image).reported_at == reported_at
            if is_current or isinstance(local, Unreachable):
                break
        record = self._record(image, local, remote)
        verdict = decide(local, remote, record, is_asked=is_asked)
        if record.base is not None and verdict in (Verdict.REPLACES, Verdict.UNDECIDED):
            self._report_conflict(image)
        comparison = Comparison(local, remote, verdict, record)
        # A flight may have marked the tag after this comparison began, and clears its own mark.
        if comparison.is_settled and image not in self.in_flight:
            self._settle(image, comparison)
        return comparison

    def _record(self, image: Image, local: DockerState, remote: RegistryState) -> TagRecord:
        """Return what is known about a tag. A side of the base that could not be read then is filled in now.

        If Docker could not be reached at the time of a manual push, the later of the two wins.
        """
        record = replace(
            self.journal.record(image), is_incomplete=image.repository in self._incomplete
        )
        base = record.base
        if base is None or isinstance(local, Unreachable):
            return record
        if base.docker_identity == NOT_READ:
            is_later = isinstance(local, LocalImage) and local.tagged_at > (base.manual_at or 0)
            if not is_later:
                base = replace(base, docker_identity=_identity(local))
        if base.registry_digest == NOT_READ and isinstance(remote, RegistryImage):
            base = replace(base, registry_digest=remote.digest)
        return replace(record, base=base)

    def _report_conflict(self, image: Image) -> None:
        """Report once that Docker and another client have both changed a tag."""
        if image not in self._conflicts:
            self._conflicts.add(image)
            change = f"{image}  Docker's image and the registry's have both changed"
            result = "Docker's replaces the registry's when a client asks for it"
            self._emit(Notice(f"{change}; {result}"))

    def _settle(self, image: Image, comparison: Comparison) -> None:
        """Record the state of a tag for which nothing is left to push."""
        self._conflicts.discard(image)
        digest = comparison.registry_digest
        match comparison.verdict:
            case Verdict.UP_TO_DATE:
                self.journal.set_found(image, comparison.docker_identity, digest, is_same=True)
                if comparison.record.stale_because is not None:
                    # A push that seemed to have failed did arrive.
                    self._emit(PushFinished(image, comparison.docker_identity, digest, 0, 0.0))
            case _ if digest:
                self.journal.set_found(image, _identity(comparison.local), digest, is_same=False)
            case _:
                self.journal.clear_stale(image)

    def mark_incomplete(self, repository: str) -> None:
        """Note that the registry lacks a part of an image: the next pull of any tag of the repository pushes again."""
        if len(self._incomplete) >= MAX_INCOMPLETE:
            self._incomplete.clear()
        self._incomplete.add(repository)

    @asynccontextmanager
    async def manual_push(self, image: Image) -> AsyncIterator[None]:
        """Hold a tag while another client's push sets it. Our push waits until the result is known."""
        tag = self._tag(image)
        tag.manual_pushes += 1
        try:
            async with tag.write:
                yield
        finally:
            tag.manual_pushes -= 1

    def record_manual_push(self, image: Image, local: DockerState, digest: str | None) -> None:
        """Record that the manual push under way set the tag, and what Docker had when it began."""
        self._tag(image).was_set_manually = True
        # Otherwise our push would have set the same.
        is_manual = not isinstance(local, LocalImage) or local.identity != digest
        self.journal.set_pushed(image, _identity(local), digest or NOT_READ, manually=is_manual)

    @asynccontextmanager
    async def own_push(self, image: Image, flight_id: str) -> AsyncIterator[bool]:
        """Hold a tag while our push sets it. Yield False if this push must not.

        That is so if a manual push goes first, and for a late request of a push that has ended.
        """
        tag = self._tag(image)
        async with tag.write:
            flight = self._pushing.get(flight_id)
            yield flight is not None and flight.image == image and not tag.is_overtaken

    def upload_failed(self, flight_id: str, cause: str) -> None:
        """Note why the registry failed an upload of this flight's push."""
        if (flight := self._pushing.get(flight_id)) is not None:
            flight.upload_error = cause

    def flight(
        self, image: Image, identity: str, because: Verdict, *, is_asked: bool = True
    ) -> asyncio.Task[PushResult]:
        """Join the flight that brings Docker's image of this Id to the registry, or start it.

        With `is_asked`, a client waits for it: the tag's flights go before those that no client waits for.
        """
        tag = self._tag(image)
        if is_asked:
            tag.asked.set()
        if identity not in tag.flights:
            task = asyncio.create_task(self._fly(image, tag, because), name=f"push {image}")
            task.add_done_callback(partial(self._land, tag, identity))
            tag.flights[identity] = task
        return tag.flights[identity]

    def _land(self, tag: TagState, identity: str, ended: asyncio.Task[PushResult]) -> None:
        if ended.cancelled() or ended.exception() or ended.result().error:
            forget = lambda: tag.flights.pop(identity)  # noqa: E731  # it also keeps the tag
            asyncio.get_running_loop().call_later(FAILURE_SECONDS, forget)
        else:
            del tag.flights[identity]

    @property
    def in_flight(self) -> list[Image]:
        flights = {image: tag.flights.values() for image, tag in self._tags.items()}
        return sorted(image for image in flights if not all(t.done() for t in flights[image]))

    async def drain(self, seconds: float) -> list[Image]:
        """Wait for the flights under way, at most so long. Return the images of those that have not ended."""
        flights = [task for tag in self._tags.values() for task in tag.flights.values()]
        if flights:
            await asyncio.wait(flights, timeout=seconds)
        return self.in_flight

    async def _fly(self, image: Image, tag: TagState, because: Verdict) -> PushResult:
        async with tag.turn:
            flight = _Flight(str(next(self._flight_ids)), image, tag, because)
            try:
                self._confirm(flight, await self._push_until_equal(flight))
            # An error of a library must end the flight like any other error.
            except Exception as exc:
                return self._fail(flight, exc)
            return PushResult(flight.pushed_bytes, flight.seconds)

    def _fail(self, flight: _Flight, error: Exception) -> PushResult:
        """Record and report that a flight has failed."""
        if not isinstance(error, AutoregistryError):
            error = PushRefused(f"internal error: {type(error).__name__}: {error}")
        error.message = one_line(flight.upload_error or error.message)
        if not isinstance(error, BackendUnreachable) and not flight.tag.is_overtaken:
            self.journal.set_stale(flight.image, error.message)
        self._emit(PushFailed(flight.image, error.message))
        return PushResult(0, flight.seconds, error)

    async def _push_until_equal(self, flight: _Flight) -> Comparison:
        """Push, and compare again after each push, until nothing is left to push. Return the last comparison.

        A flight that has pushed MAX_PUSHES builds in a row ends as well: its clients asked for an older one.
        """
        while True:
            flight.tag.was_set_manually = False
            comparison = await self.compare(flight.image)
            if flight.tag.was_set_manually:
                continue  # the comparison is outdated
            local = comparison.local
            if not isinstance(local, LocalImage) or not comparison.verdict.must_push:
                return comparison
            identity, digest = flight.pushed
            if identity == local.identity:
                # A daemon that is too old to list an index's children makes an arrived push look like another image.
                if comparison.registry_digest == digest:
                    return comparison
                if not flight.tag.is_overtaken:
                    raise PushRefused(_why_not_there(comparison.registry))
                await asyncio.sleep(OVERTAKEN_SECONDS)  # the manual push is not recorded yet
            elif flight.pushes == MAX_PUSHES:
                return comparison
            else:
                await self._push_once(flight, local)

    async def _push_once(self, flight: _Flight, local: LocalImage) -> None:
        """Have Docker push. The journal calls the tag stale until a comparison confirms the push.

        Returns normally, too, if the push failed and comparing again can help. Raises PushRefused, DockerUnreachable.
        """
        self.journal.set_stale(flight.image, CUT_OFF)
        self._incomplete.discard(flight.image.repository)
        flight.upload_error = ""
        try:
            async with self._place(flight.tag):
                self._pushing[flight.id] = flight
                self._emit(PushStarted(flight.image, local.identity, flight.because.value))
                progress = await self._docker.push(flight.image, flight.id, self._reporter(flight))
        except PushRefused as exc:
            if flight.tag.is_overtaken or await self._is_worth_repeating(flight, local, exc):
                return
            raise
        finally:
            self._pushing.pop(flight.id, None)
        flight.pushes += 1
        flight.pushed_bytes += progress.done_bytes
        flight.pushed = (local.identity, progress.digest)

    @asynccontextmanager
    async def _place(self, tag: TagState) -> AsyncIterator[None]:
        """Wait for a place among the pushes that no client waits for, or until a client asks for the tag."""
        place = asyncio.ensure_future(self._places.acquire())
        asked = asyncio.ensure_future(tag.asked.wait())
        try:
            await asyncio.wait({place, asked}, return_when=asyncio.FIRST_COMPLETED)
            yield
        finally:
            asked.cancel()
            if place.done():
                self._places.release()
            else:
                place.cancel()

    async def _is_worth_repeating(
        self, flight: _Flight, pushed: LocalImage, error: PushRefused
    ) -> bool:
        """Return True if Docker's image has changed during the push that failed.

        The containerd store removes the content of an image that a build replaces, also while it is pushed. If content
        of an unchanged image is missing, the push is tried once more.
        """
        local = await self._docker.inspect(flight.image)
        if isinstance(local, LocalImage) and local.identity != pushed.identity:
            flight.failures += 1
            return flight.failures <= MAX_OVERTAKEN_PUSHES
        if not flight.upload_error and _MISSING_CONTENT.search(error.message):
            if not flight.is_retry:
                flight.is_retry = True
                return True
            error.message += "; Docker lacks a part of this image: build it again, or remove it and pull it again"
        return False

    def _confirm(self, flight: _Flight, comparison: Comparison) -> None:
        """Record the result of a flight. Raises an error if the last comparison does not show that it has succeeded."""
        image, verdict = flight.image, comparison.verdict
        if isinstance(comparison.local, Unreachable):
            raise DockerUnreachable("Docker became unreachable before its push was confirmed")
        if verdict is Verdict.UNREADABLE:
            raise BackendUnreachable(f"{image}: {verdict.value}")
        identity, digest = comparison.docker_identity, comparison.registry_digest
        if flight.pushes and verdict is not Verdict.PUSHED_MANUALLY:
            pushed_identity, _ = flight.pushed
            self.journal.set_pushed(image, pushed_identity, digest, manually=False)
            self._conflicts.discard(image)
            if verdict.must_push and pushed_identity != identity:
                self.journal.set_stale(image, NEWER_BUILD)
        elif comparison.is_settled:
            self._settle(image, comparison)
            return
        if flight.pushes:
            self._emit(PushFinished(image, identity, digest, flight.pushed_bytes, flight.seconds))

    def _reporter(self, flight: _Flight) -> OnProgress:
        """Return a callback for the thread that pushes. It also ends a push whose upload has failed."""
        loop, began, last = asyncio.get_running_loop(), time.monotonic(), 0.0

        def report(progress: Progress) -> None:
            nonlocal last
            if flight.upload_error:
                raise PushRefused(flight.upload_error)  # the classic store would retry for 50 s
            if (now := time.monotonic()) - last < PROGRESS_SECONDS:
                return
            last = now
            event = PushProgress(
                flight.image,
                progress.done_bytes,
                progress.total_bytes,
                progress.done_layers,
                progress.total_layers,
                round(now - began, 1),
            )
            loop.call_soon_threadsafe(self._emit, event)

        return report


def _identity(local: DockerState) -> str | None:
    """Return Docker's Id as the journal keeps it."""
    if isinstance(local, Unreachable):
        return NOT_READ
    return local.identity if local else None


def _why_not_there(registry: RegistryState) -> str:
    """Return the reason why the registry lacks the image after a push that Docker reported as successful."""
    if isinstance(registry, RegistryImage):
        return "Docker pushed it, but the registry has another image"
    if isinstance(registry, Unreadable):
        return "the registry cannot read what was pushed: one of its files is damaged; change the image and build again"
    return "Docker pushed it, but to another registry: its localhost is not this machine; run: autoregistry up"
