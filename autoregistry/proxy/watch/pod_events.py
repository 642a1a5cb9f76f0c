"""Pods that wait for a push are told so, as Kubernetes Events: people look at `kubectl describe pod` first.

Only pushes that take longer than a moment are worth it, and nothing waits for this: a cluster that cannot be told is
passed over.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from autoregistry.cluster.nodes import Nodes
from autoregistry.cluster.pods import ContainerUse
from autoregistry.cluster.workloads import create_pod_event
from autoregistry.errors import AutoregistryError
from autoregistry.events import Event, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image, RegistryNames

FIRST_SECONDS = 2.0
AGAIN_SECONDS = 15.0
# An image takes one of them at most, however often its push fails and however long a cluster takes to note it.
THREADS = 4


class PodEvents:
    """Follows pushes, and tells the pods: of each image one thing at a time, and only the newest."""

    def __init__(self, nodes: Nodes, names: RegistryNames) -> None:
        self._nodes = nodes
        self._names = names
        self._threads = ThreadPoolExecutor(THREADS, "podnews")
        self._percent: dict[Image, int] = {}
        self._pushing: dict[Image, asyncio.Task[None]] = {}
        self._news: dict[Image, tuple[str, str]] = {}
        """Reason and message, not told yet."""
        self._telling: dict[Image, asyncio.Task[None]] = {}

    def close(self) -> None:
        for task in (*self._pushing.values(), *self._telling.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def take(self, event: Event) -> None:
        """Take an event, from the loop's own thread."""
        match event:
            case PushStarted(image):
                self._news.pop(image, None)
                self._percent[image] = 0
                if image not in self._pushing:
                    self._pushing[image] = asyncio.create_task(self._while_pushing(image))
            case PushProgress(image, done, total) if total and image in self._percent:
                self._percent[image] = 100 * done // total
            case PushFinished(image):
                self._end(image)
            case PushFailed(image, cause):
                self._end(image)
                self._say(image, "PushFailed", f"{image} could not be pushed: {cause}")

    def _end(self, image: Image) -> None:
        self._news.pop(image, None)
        self._percent.pop(image, None)
        if task := self._pushing.pop(image, None):
            task.cancel()

    async def _while_pushing(self, image: Image) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            self._say(image, "Pushing", f"pushing {image}, {self._percent.get(image, 0)} %")
            await asyncio.sleep(AGAIN_SECONDS)

    def _say(self, image: Image, reason: str, message: str) -> None:
        self._news[image] = (reason, f"autoregistry: {message}")
        if image not in self._telling:
            self._telling[image] = asyncio.create_task(self._tell_all(image))

    async def _tell_all(self, image: Image) -> None:
        loop = asyncio.get_running_loop()
        try:
            while news := self._news.pop(image, None):
                await loop.run_in_executor(self._threads, self._tell, image, *news)
        finally:
            del self._telling[image]

    def _tell(self, image: Image, reason: str, message: str) -> None:
        references = self._names.docker_references(image)
        with suppress(AutoregistryError):
            for cluster in sorted(
                {node.cluster for node in self._nodes.attached(self._names.primary)}
            ):
                with suppress(AutoregistryError):
                    for use in self._nodes.container_uses(cluster):
                        if use.reference in references and _waits(use):
                            create_pod_event(self._nodes, cluster, use, reason, message)


def _waits(use: ContainerUse) -> bool:
    return not use.digest
