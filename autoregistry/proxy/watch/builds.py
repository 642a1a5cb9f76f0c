"""Docker's events, turned into flights: what has just been built is pushed before anybody asks.

At the start, and again after the daemon was away, what was built meanwhile is caught up with. Old images that
nobody asked for are left alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Protocol

from autoregistry.decision import Unreachable, is_skipped_at_startup
from autoregistry.engine.events import ImageEvent
from autoregistry.errors import AutoregistryError, BackendUnreachable
from autoregistry.events import Emit, Notice
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes

LAST_EVENT = "last-event"
MAX_BACK_OFF_SECONDS = 10.0
# A node that holds an old copy never asks: what could not be pushed at once is tried again, for four minutes.
AGAIN_SECONDS = (0.0, 1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class Follow(Protocol):
    """Docker's image events since then, as they come; blocks, and ends with an error when Docker goes away.

    None says that Docker has taken the question: from now on nothing is missed.
    """

    def __call__(self, since_nanoseconds: int) -> Iterator[ImageEvent | None]: ...


class BuildWatcher:
    """Follows one daemon for as long as it runs."""

    def __init__(
        self,
        follow: Follow,
        questions: AsyncDocker,
        sync: Pushes,
        journal: Journal,
        names: RegistryNames,
        skip: tuple[str, ...],
        emit: Emit,
    ) -> None:
        self._stream = follow
        self._questions = questions
        self._sync = sync
        self._journal = journal
        self._names = names
        self._skip = skip
        self._emit = emit
        self._queue: asyncio.Queue[ImageEvent | AutoregistryError | None] = asyncio.Queue()
        self._pushes: dict[Image, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None
        self.is_connected = False

    async def run(self) -> None:
        """Until cancelled."""
        back_off = 0.5
        while True:
            # From now on, the first time: what happens before the stream has begun is in neither list otherwise.
            last = int(self._journal.note(LAST_EVENT) or time.time_ns())
            self._journal.set_note(LAST_EVENT, str(last))
            # A thread of its own: it blocks for as long as Docker has nothing to say, and ends with the process.
            args = (asyncio.get_running_loop(), last + 1)
            threading.Thread(target=self._follow, args=args, daemon=True, name="events").start()
            catching_up = asyncio.create_task(self._catch_up(last / 1e9))
            try:
                while not isinstance(item := await self._queue.get(), AutoregistryError):
                    self.is_connected, back_off = True, 0.5
                    if item is not None:
                        await self._take(item)
            finally:
                catching_up.cancel()
            if self.is_connected:
                self._emit(Notice(f"Docker's events broke off ({item.message}), trying again"))
            self.is_connected = False
            await asyncio.sleep(back_off)
            back_off = min(back_off * 2, MAX_BACK_OFF_SECONDS)

    def _follow(self, loop: asyncio.AbstractEventLoop, since: int) -> None:
        end: AutoregistryError = AutoregistryError("the stream ended")
        with suppress(RuntimeError):  # the loop is closed: we are stopping
            try:
                for event in self._stream(since):
                    loop.call_soon_threadsafe(self._queue.put_nowait, event)
            except AutoregistryError as exc:
                end = exc
            finally:
                loop.call_soon_threadsafe(self._queue.put_nowait, end)

    async def _take(self, event: ImageEvent) -> None:
        for reference in await self._references(event):
            if image := self._names.parse(reference):
                self._journal.forget_hand(image)
                if not self.skips(image):
                    self._start(image)
                    self._telling = asyncio.create_task(self._tell_hidden(image, reference))
        if event.nanoseconds:
            self._journal.set_note(LAST_EVENT, str(event.nanoseconds))

    async def _references(self, event: ImageEvent) -> list[str]:
        """A load or import may name only the image's Id."""
        if self._names.parse(event.reference):
            return [event.reference]
        if event.reference.startswith("sha256:"):
            found = await self._questions.ask(lambda images: images.names_of(event.reference))
            return [] if isinstance(found, Unreachable) else found
        return []

    async def _tell_hidden(self, image: Image, reference: str) -> None:
        """Under another spelling of our name Docker may have another image of it, and that is the one that counts."""
        if (first := self._names.docker_references(image)[0]) == reference:
            return
        asked = lambda images: [images.inspect(name) for name in (first, reference)]  # noqa: E731
        found = await self._questions.ask(asked)
        if not isinstance(found, Unreachable) and all(found):
            wins, hidden = found
            if wins.identity != hidden.identity:
                said = f"{reference} is not what is pushed: Docker has {first} as well, and that counts"
                self._emit(Notice(f"{said}; hint: docker rmi {first}"))

    def skips(self, image: Image) -> bool:
        return any(fnmatchcase(image.tag, p) or fnmatchcase(str(image), p) for p in self._skip)

    def _start(self, image: Image, since: float | None = None) -> None:
        if (earlier := self._pushes.get(image)) is not None:
            if since is not None:
                return  # an event brings it, however old it is
            earlier.cancel()  # its flight goes on
        self._pushes[image] = task = asyncio.create_task(self._bring(image, since))
        task.add_done_callback(lambda ended: self._ended(image, ended))

    def _ended(self, image: Image, task: asyncio.Task[None]) -> None:
        if self._pushes.get(image) is task:
            del self._pushes[image]

    async def _bring(self, image: Image, since: float | None) -> None:
        for pause in AGAIN_SECONDS:
            await asyncio.sleep(pause)
            if await self._is_settled(image, since):
                return

    async def _is_settled(self, image: Image, since: float | None) -> bool:
        """Start, or join, the flight that this image needs; false where it failed, or nobody could be asked.

        `since`: what only Docker has must be tagged later.
        """
        try:
            facts = await self._sync.compare(image)
        except BackendUnreachable:
            return False
        if isinstance(facts.local, Unreachable):
            return False
        if facts.local is None or not facts.verdict.must_push:
            return True
        if since and is_skipped_at_startup(facts.local, facts.registry, facts.stale_because, since):
            return True
        flight = self._sync.flight(image, facts.local.identity, facts.verdict)
        await asyncio.wait({flight})
        return flight.result().error is None

    async def _catch_up(self, since: float) -> None:
        """What was tagged while nobody looked, and what the registry has differently; until Docker can be asked."""
        while isinstance(images := await self._questions.ours(), Unreachable):  # noqa: ASYNC110
            await asyncio.sleep(MAX_BACK_OFF_SECONDS)
        for image in images:
            if not self.skips(image):
                self._start(image, since)
