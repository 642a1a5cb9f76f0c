"""Kubernetes Events on pods that wait for a push: `kubectl describe pod` shows its progress, or why it failed.

Only pushes that take longer than a moment are reported. Nothing waits for this, and a cluster that does not answer is
left out.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from autoregistry.cluster.nodes import Nodes
from autoregistry.cluster.workloads import by_cluster, create_pod_event
from autoregistry.errors import AutoregistryError
from autoregistry.events import Event, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image, RegistryNames

FIRST_EVENT_SECONDS = 2.0
NEXT_EVENT_SECONDS = 15.0
# An image uses at most one of them, however often its push fails and however slow a cluster is.
POD_EVENT_THREADS = 4


class PodEvents:
    """Follows pushes and writes Events: one at a time for each image, and only the newest."""

    def __init__(self, nodes: Nodes, names: RegistryNames) -> None:
        self._nodes = nodes
        self._names = names
        self._threads = ThreadPoolExecutor(POD_EVENT_THREADS, "pod-events")
        self._percent: dict[Image, int] = {}
        self._pushing: dict[Image, asyncio.Task[None]] = {}
        self._next: dict[Image, tuple[str, str]] = {}
        """Reason and message of the next Event."""
        self._writing: dict[Image, asyncio.Task[None]] = {}

    def close(self) -> None:
        for task in (*self._pushing.values(), *self._writing.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def handle(self, event: Event) -> None:
        """Handle one event of the proxy, in the event loop's thread."""
        match event:
            case PushStarted(image):
                self._next.pop(image, None)
                self._percent[image] = 0
                if image not in self._pushing:
                    self._pushing[image] = asyncio.create_task(self._report_progress(image))
            case PushProgress(image, done, total) if total and image in self._percent:
                self._percent[image] = 100 * done // total
            case PushFinished(image):
                self._end(image)
            case PushFailed(image, cause):
                self._end(image)
                self._write(image, "PushFailed", f"{image} could not be pushed: {cause}")

    def _end(self, image: Image) -> None:
        self._next.pop(image, None)
        self._percent.pop(image, None)
        if task := self._pushing.pop(image, None):
            task.cancel()

    async def _report_progress(self, image: Image) -> None:
        await asyncio.sleep(FIRST_EVENT_SECONDS)
        while True:
            self._write(image, "Pushing", f"pushing {image}, {self._percent.get(image, 0)} %")
            await asyncio.sleep(NEXT_EVENT_SECONDS)

    def _write(self, image: Image, reason: str, message: str) -> None:
        self._next[image] = (reason, f"autoregistry: {message}")
        if image not in self._writing:
            self._writing[image] = asyncio.create_task(self._write_all(image))

    async def _write_all(self, image: Image) -> None:
        loop = asyncio.get_running_loop()
        try:
            while event := self._next.pop(image, None):
                await loop.run_in_executor(self._threads, self._create, image, *event)
        finally:
            del self._writing[image]

    def _create(self, image: Image, reason: str, message: str) -> None:
        """Create the Event on every pod that does not run the image yet."""
        references = self._names.docker_references(image)
        with suppress(AutoregistryError):
            for cluster in by_cluster(self._nodes.attached(self._names.primary)):
                with suppress(AutoregistryError):
                    for use in self._nodes.container_uses(cluster):
                        if use.reference in references and not use.digest:
                            create_pod_event(self._nodes, cluster, use, reason, message)
