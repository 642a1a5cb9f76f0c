"""Delivers images as soon as Docker reports them, before a client asks.

At the start, and when Docker returns, it also delivers what was built in the meantime. Old images that no client
ever asked for are left alone.
"""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase

from autoregistry.decision import Unreachable, is_skipped_at_startup
from autoregistry.engine.events import ImageEvent
from autoregistry.errors import BackendUnreachable
from autoregistry.events import Emit, Notice
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.background import Background
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.docker_events import Connected, Disconnected, DockerEvent

# A node that holds an old copy never asks, so a delivery that failed is tried again, for four minutes.
DELIVERY_PAUSES_SECONDS = (1.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
CATCH_UP_PAUSE_SECONDS = 10.0


class BuildWatcher:
    """Delivers what Docker reports, for as long as the proxy runs."""

    def __init__(
        self,
        docker: AsyncDocker,
        pushes: Pushes,
        names: RegistryNames,
        skip: tuple[str, ...],
        emit: Emit,
        background: Background,
    ) -> None:
        self._docker = docker
        self._pushes = pushes
        self._names = names
        self._skip = skip
        self._emit = emit
        self._background = background
        self._deliveries: dict[Image, asyncio.Task[None]] = {}
        self._catching_up: asyncio.Task[None] | None = None

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case ImageEvent(reference) if self._names.parse(reference):
                self._tagged(reference)
            case ImageEvent(reference) if reference.startswith("sha256:"):
                self._background.once(f"load {reference}", self._tagged_by_id(reference))
            case Connected(since):
                self._catching_up = self._background.once("catch-up", self._catch_up(since))
            case Disconnected(cause, was_connected):
                if self._catching_up is not None:
                    self._catching_up.cancel()
                if was_connected:
                    self._emit(Notice(f"Docker's event stream ended ({cause}), reconnecting"))

    def _tagged(self, reference: str) -> None:
        if image := self._names.parse(reference):
            self._pushes.forget_manual_push(image)
            if not self.skips(image):
                self._start(image)
                self._background.once(f"check {image}", self._report_hidden(image, reference))

    async def _tagged_by_id(self, identity: str) -> None:
        """Handle a `load` or `import` that names only the image's Id."""

        async def names() -> list[str] | None:
            response = await self._docker.call(lambda images: images.names_of(identity))
            return None if isinstance(response, Unreachable) else response

        for reference in await retry(names, DELIVERY_PAUSES_SECONDS) or []:
            self._tagged(reference)

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

    def _start(self, image: Image, since: float | None = None) -> None:
        if (earlier := self._deliveries.get(image)) is not None:
            if since is not None:
                return  # an event delivers it, however old it is
            earlier.cancel()  # its flight continues
        task = self._background.once(f"deliver {image}", self._deliver(image, since))
        self._deliveries[image] = task
        task.add_done_callback(lambda ended: self._ended(image, ended))

    def _ended(self, image: Image, task: asyncio.Task[None]) -> None:
        if self._deliveries.get(image) is task:
            del self._deliveries[image]

    async def _deliver(self, image: Image, since: float | None) -> None:
        async def is_settled() -> bool | None:
            return await self._is_settled(image, since) or None

        await retry(is_settled, DELIVERY_PAUSES_SECONDS)

    async def _is_settled(self, image: Image, since: float | None) -> bool:
        """Start or join the flight that this image needs. Return False if it failed, or if a side did not answer.

        With `since` (seconds since the epoch), an image that was tagged before it and never pushed is skipped.
        """
        try:
            facts = await self._pushes.compare(image)
        except BackendUnreachable:
            return False
        if isinstance(facts.local, Unreachable):
            return False
        if facts.local is None or not facts.verdict.must_push:
            return True
        if since and is_skipped_at_startup(facts.local, facts.registry, facts.stale_because, since):
            return True
        flight = self._pushes.flight(image, facts.local.identity, facts.verdict)
        await asyncio.wait({flight})
        return flight.result().error is None

    async def _catch_up(self, since: float) -> None:
        """Deliver what was tagged while Docker was not followed, and what the registry has differently."""
        while isinstance(images := await self._docker.list_images(), Unreachable):  # noqa: ASYNC110
            await asyncio.sleep(CATCH_UP_PAUSE_SECONDS)
        for image in images:
            if not self.skips(image):
                self._start(image, since)
