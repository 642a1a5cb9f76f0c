"""Delivers images as soon as Docker reports them, before a client asks.

At the start, and when Docker returns, it also delivers what was built in the meantime. Old images that no client
ever asked for are left alone.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from fnmatch import fnmatchcase

from autoregistry.decision import Unreachable, is_skipped_at_startup
from autoregistry.engine.events import ImageEvent
from autoregistry.errors import BackendUnreachable
from autoregistry.events import Emit, Notice
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.background import Background
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.docker_events import Connected, Disconnected, DockerEvent

# A node that holds an old copy never asks, so a delivery that failed is tried again, for four minutes.
DELIVERY_PAUSES_SECONDS = (1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
CATCH_UP_PAUSE_SECONDS = 10.0
ID_PAUSE_SECONDS = 2.0


class BuildWatcher:
    """Delivers what Docker reports, for as long as the proxy runs."""

    def __init__(
        self,
        docker: AsyncDocker,
        pushes: Pushes,
        journal: Journal,
        names: RegistryNames,
        skip: tuple[str, ...],
        emit: Emit,
        background: Background,
    ) -> None:
        self._docker = docker
        self._pushes = pushes
        self._journal = journal
        self._names = names
        self._skip = skip
        self._emit = emit
        self._background = background
        self._deliveries: dict[Image, asyncio.Task[None]] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._catching_up: asyncio.Task[None] | None = None

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case ImageEvent(reference, _, nanoseconds) if self._names.parse(reference):
                self._tagged(reference, nanoseconds / 1e9)
            case ImageEvent(reference, _, nanoseconds) if reference.startswith("sha256:"):
                self._journal.add_reported_id(reference, nanoseconds / 1e9)
                self._load(reference, nanoseconds / 1e9)
            case Connected(since):
                for identity, at in self._journal.reported_ids.items():
                    self._load(identity, at)
                self._catching_up = self._background.once("catch-up", self._catch_up(since))
            case Disconnected(cause, was_connected):
                if self._catching_up is not None:
                    self._catching_up.cancel()
                if was_connected:
                    self._emit(Notice(f"Docker's event stream ended ({cause}), reconnecting"))

    def _load(self, identity: str, at: float) -> None:
        if identity not in self._loads:
            task = self._background.once(f"load {identity}", self._tagged_by_id(identity, at))
            self._loads[identity] = task
            task.add_done_callback(lambda _: self._loads.pop(identity))

    def _tagged(self, reference: str, at: float) -> None:
        """Record first that Docker has reported the name: nothing that happens later can make the proxy forget it."""
        if image := self._names.parse(reference):
            self._journal.set_reported(image, at or time.time())
            if not self.skips(image):
                self._start(image)
                self._background.once(f"check {image}", self._report_hidden(image, reference))

    async def _tagged_by_id(self, identity: str, at: float) -> None:
        """Handle a `load` or `import` that names only the image's Id, as soon as Docker names its tags."""

        async def names() -> list[str] | None:
            response = await self._docker.call(lambda images: images.names_of(identity))
            return None if isinstance(response, Unreachable) else response

        for reference in await retry(names, itertools.repeat(ID_PAUSE_SECONDS)) or []:
            self._tagged(reference, at)
        self._journal.remove_reported_id(identity)

    async def _report_hidden(self, image: Image, reference: str) -> None:
        """Report that Docker has another image under the spelling of the name that takes precedence."""
        if (first := self._names.docker_references(image)[0]) == reference:
            return
        both = await self._docker.call(
            lambda images: [images.inspect(name) for name in (first, reference)]
        )
        if isinstance(both, Unreachable):
            return
        delivered, hidden = both
        if delivered and hidden and delivered.identity != hidden.identity:
            self._emit(
                Notice(
                    f"{reference} is not delivered: Docker also has {first}, which takes precedence; "
                    f"hint: docker rmi {first}"
                )
            )

    def skips(self, image: Image) -> bool:
        """Return True for an image that is pushed only when a client asks (`serve --skip`)."""
        return any(fnmatchcase(image.tag, p) or fnmatchcase(str(image), p) for p in self._skip)

    def _start(self, image: Image, since: float = 0.0) -> None:
        if (earlier := self._deliveries.get(image)) is not None:
            earlier.cancel()  # its flight continues
        task = self._background.once(f"deliver {image}", self._deliver(image, since))
        self._deliveries[image] = task
        task.add_done_callback(lambda ended: self._ended(image, ended))

    def _ended(self, image: Image, task: asyncio.Task[None]) -> None:
        if self._deliveries.get(image) is task:
            del self._deliveries[image]

    async def _deliver(self, image: Image, since: float) -> None:
        """Bring an image to the registry. Repeat a failed push a few times, and a query until it is answered.

        An image that was tagged before `since` (seconds since the epoch) and never pushed is skipped.
        """
        last = DELIVERY_PAUSES_SECONDS[-1]
        pauses = itertools.chain(DELIVERY_PAUSES_SECONDS, itertools.repeat(last))
        failures = 0
        while failures <= len(DELIVERY_PAUSES_SECONDS):
            with suppress(BackendUnreachable):
                comparison = await self._pushes.compare(image, is_asked=False)
                local, record = comparison.local, comparison.record
                if not isinstance(local, Unreachable):
                    if local is None or not comparison.verdict.must_push:
                        return
                    if is_skipped_at_startup(local, comparison.registry, record, since):
                        return
                    flight = self._pushes.flight(image, local.identity, comparison.verdict)
                    await asyncio.wait({flight})
                    if flight.result().error is None:
                        return
                    failures += 1
            await asyncio.sleep(next(pauses))

    async def _catch_up(self, since: float) -> None:
        """Deliver what was tagged while Docker was not followed, and what the registry has differently."""
        while isinstance(images := await self._docker.list_images(), Unreachable):  # noqa: ASYNC110
            await asyncio.sleep(CATCH_UP_PAUSE_SECONDS)
        for image in images:
            if not self.skips(image):
                self._start(image, since)
