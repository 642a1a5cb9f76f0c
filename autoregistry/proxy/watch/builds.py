"""Delivers images as soon as Docker reports them, before a client asks.

At the start, and when Docker returns, it also delivers what was built in the meantime. Old images that no client
ever asked for are left alone.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from autoregistry.decision import Unreachable, is_skipped_at_startup
from autoregistry.engine.events import ImageEvent
from autoregistry.errors import BackendUnreachable
from autoregistry.events import Notice
from autoregistry.names import Image
from autoregistry.proxy.pull.core import Core
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.docker_events import Connected, Disconnected, DockerEvent
from autoregistry.settings import DOCKER_CALL_THREADS

# A node that holds an old copy never asks, so a delivery that failed is tried again, for four minutes.
DELIVERY_PAUSES_SECONDS = (1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
CATCH_UP_PAUSE_SECONDS = 10.0
ID_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BuildWatcher:
    """Delivers what Docker reports, for as long as the proxy runs."""

    core: Core
    # Two of Docker's threads are always left for the inspections of pulls.
    _queries: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(DOCKER_CALL_THREADS - 2)
    )

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case ImageEvent(reference, _, nanoseconds) if self.core.settings.names.parse(reference):
                self._tagged(reference, nanoseconds / 1e9)
            case ImageEvent(reference, _, nanoseconds) if reference.startswith("sha256:"):
                self.core.journal.add_reported_id(reference, nanoseconds / 1e9)
                self._load(reference, nanoseconds / 1e9)
            case Connected(since):
                for identity, at in self.core.journal.reported_ids.items():
                    self._load(identity, at)
                self.core.background.replace("catch-up", self._catch_up(since))
            case Disconnected(cause, was_connected):
                self.core.background.cancel("catch-up")
                if was_connected:
                    self.core.emit(Notice(f"Docker's event stream ended ({cause}), reconnecting"))

    def _load(self, identity: str, at: float) -> None:
        self.core.background.replace(f"load {identity}", self._tagged_by_id(identity, at))

    def _tagged(self, reference: str, at: float) -> None:
        """Record first that Docker has reported the name: nothing that happens later can make the proxy forget it."""
        if image := self.core.settings.names.parse(reference):
            self.core.journal.set_reported(image, at or time.time())
            if not self.skips(image):
                self._start(image)
                self.core.background.once(f"check {image}", self._report_hidden(image, reference))

    async def _tagged_by_id(self, identity: str, at: float) -> None:
        """Handle a `load` or `import` that names only the image's Id, as soon as Docker names its tags."""

        async def names() -> list[str] | None:
            response = await self.core.docker.call(lambda images: images.names_of(identity))
            return None if isinstance(response, Unreachable) else response

        for reference in await retry(names, itertools.repeat(ID_PAUSE_SECONDS)) or []:
            self._tagged(reference, at)
        self.core.journal.remove_reported_id(identity)

    async def _report_hidden(self, image: Image, reference: str) -> None:
        """Report that Docker has another image under the spelling of the name that takes precedence."""
        if (first := self.core.settings.names.docker_references(image)[0]) == reference:
            return
        both = await self.core.docker.call(
            lambda images: [images.inspect(name) for name in (first, reference)]
        )
        if isinstance(both, Unreachable):
            return
        delivered, hidden = both
        if delivered and hidden and delivered.identity != hidden.identity:
            self.core.emit(
                Notice(
                    f"{reference} is not delivered: Docker also has {first}, which takes precedence; "
                    f"hint: docker rmi {first}"
                )
            )

    def skips(self, image: Image) -> bool:
        """Return True for an image that is pushed only when a client asks (`serve --skip`)."""
        return any(
            fnmatchcase(image.tag, p) or fnmatchcase(str(image), p) for p in self.core.settings.skip
        )

    def _start(self, image: Image, since: float = 0.0) -> None:
        """Start a delivery in place of an earlier one, whose flight continues."""
        self.core.background.replace(f"deliver {image}", self._deliver(image, since))

    async def _deliver(self, image: Image, since: float) -> None:
        """Bring an image to the registry. Repeat a failed push a few times, and a query until it is answered.

        An image that was tagged before `since` (seconds since the epoch) and never pushed is skipped.
        """
        last = DELIVERY_PAUSES_SECONDS[-1]
        pauses = itertools.chain(DELIVERY_PAUSES_SECONDS, itertools.repeat(last))
        failures = 0
        while failures <= len(DELIVERY_PAUSES_SECONDS):
            with suppress(BackendUnreachable):
                async with self._queries:
                    comparison = await self.core.pushes.compare(image, is_asked=False)
                local, record = comparison.local, comparison.record
                if not isinstance(local, Unreachable):
                    if local is None or not comparison.verdict.must_push:
                        return
                    if is_skipped_at_startup(local, comparison.registry, record, since):
                        return
                    flight = self.core.pushes.flight(
                        image, local.identity, comparison.verdict, is_asked=False
                    )
                    await asyncio.wait({flight})
                    if flight.result().error is None:
                        return
                    failures += 1
            await asyncio.sleep(next(pauses))

    async def _catch_up(self, since: float) -> None:
        """Deliver what was tagged while Docker was not followed, and what the registry has differently."""
        while isinstance(images := await self.core.docker.list_images(), Unreachable):  # noqa: ASYNC110
            await asyncio.sleep(CATCH_UP_PAUSE_SECONDS)
        for image in images:
            if not self.skips(image):
                self._start(image, since)
