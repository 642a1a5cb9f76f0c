"""Kubernetes Events on pods that wait for a push: `kubectl describe pod` shows its progress, or why it failed.

Only pushes that take longer than a moment are reported. Nothing waits for this, and a cluster that does not answer is
left out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from autoregistry.cluster.workloads import by_cluster, create_pod_event
from autoregistry.events import Event, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image
from autoregistry.proxy.watch.async_nodes import AsyncNodes, or_none

FIRST_EVENT_SECONDS = 2.0
NEXT_EVENT_SECONDS = 15.0


@dataclass(slots=True, eq=False)
class PodEvents:
    """Follows pushes and writes Events: one at a time for each image and cluster, and only the newest."""

    nodes: AsyncNodes
    _percent: dict[Image, int] = field(default_factory=dict)
    """The progress of each running push."""
    _next: dict[Image, tuple[str, str]] = field(default_factory=dict)
    """Reason and message of the next Event."""
    _writing: set[Image] = field(default_factory=set)

    def handle(self, event: Event) -> None:
        """Handle one event of the proxy, in the event loop's thread."""
        match event:
            case PushStarted(image):
                self._next.pop(image, None)
                if image not in self._percent:
                    progress = self._report_progress(image)
                    self.nodes.background.replace(f"progress of {image} in pod events", progress)
                self._percent[image] = 0
            case PushProgress(image, done, total) if total and image in self._percent:
                self._percent[image] = 100 * done // total
            case PushFinished(image) | PushFailed(image):
                self._next.pop(image, None)
                self._percent.pop(image, None)
                if isinstance(event, PushFailed):
                    self._write(image, "PushFailed", f"{image} could not be pushed: {event.cause}")

    async def _report_progress(self, image: Image) -> None:
        await asyncio.sleep(FIRST_EVENT_SECONDS)
        while image in self._percent:
            self._write(image, "Pushing", f"pushing {image}, {self._percent[image]} %")
            await asyncio.sleep(NEXT_EVENT_SECONDS)

    def _write(self, image: Image, reason: str, message: str) -> None:
        self._next[image] = (reason, f"autoregistry: {message}")
        if image not in self._writing:
            self._writing.add(image)
            self.nodes.background.once(f"pod events of {image}", self._write_all(image))

    async def _write_all(self, image: Image) -> None:
        try:
            while event := self._next.pop(image, None):
                clusters = by_cluster(await or_none(self.nodes.attached()) or [])
                await asyncio.gather(*(self._write_in(c, image, *event) for c in clusters))
        finally:
            self._writing.discard(image)

    async def _write_in(self, cluster: str, image: Image, reason: str, message: str) -> None:
        """Create the Event on every pod of a cluster that does not run the image yet."""
        references = self.nodes.names.docker_references(image)
        for use in await or_none(self.nodes.uses(cluster)) or []:
            if use.reference in references and not use.digest:
                event = self.nodes.change(cluster, create_pod_event, use, reason, message)
                await or_none(event)
