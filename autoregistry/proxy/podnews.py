"""Pods that wait for a push are told so, as Kubernetes Events: people look at `kubectl describe pod` first.

Only pushes that take longer than a moment are worth it, and nothing waits for this: a cluster that cannot be told is
passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import Use
from autoregistry.cluster.workloads import Cluster, tell
from autoregistry.errors import AutoregistryError
from autoregistry.events import Event, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image, RegistryNames

FIRST_SECONDS = 2.0
AGAIN_SECONDS = 15.0
# One image whose push fails again and again takes one of them at most.
THREADS = 4


class Nodes(Cluster, Protocol):
    """What is needed of the clusters (`cluster/nodes.py`); every method blocks."""

    def attached(self, name: str) -> list[Node]: ...


class PodNews:
    """Follows pushes, and tells the pods."""

    def __init__(self, nodes: Nodes, names: RegistryNames) -> None:
        self._nodes = nodes
        self._names = names
        self._threads = ThreadPoolExecutor(THREADS, "podnews")
        self._percent: dict[Image, int] = {}
        self._tasks: dict[Image, asyncio.Task[None]] = {}
        self._causes: dict[Image, str] = {}
        """Why a push failed, not told yet; of several the last one counts."""
        self._last_words: dict[Image, asyncio.Task[None]] = {}

    def close(self) -> None:
        for task in (*self._tasks.values(), *self._last_words.values()):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def take(self, event: Event) -> None:
        """Take an event, from the loop's own thread."""
        match event:
            case PushStarted(image):
                self._percent[image] = 0
                if image not in self._tasks:
                    self._tasks[image] = asyncio.create_task(self._while_pushing(image))
            case PushProgress(image, done, total) if total and image in self._percent:
                self._percent[image] = 100 * done // total
            case PushFinished(image):
                self._end(image)
            case PushFailed(image, cause):
                self._end(image)
                self._causes[image] = cause
                if image not in self._last_words:
                    self._last_words[image] = asyncio.create_task(self._after_failure(image))

    def _end(self, image: Image) -> None:
        self._percent.pop(image, None)
        if task := self._tasks.pop(image, None):
            task.cancel()

    async def _while_pushing(self, image: Image) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            message = f"autoregistry: pushing {image}, {self._percent.get(image, 0)} %"
            await self._in_thread(image, "Pushing", message)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _after_failure(self, image: Image) -> None:
        try:
            while cause := self._causes.pop(image, ""):
                message = f"autoregistry: {image} could not be pushed: {cause}"
                await self._in_thread(image, "PushFailed", message)
        finally:
            del self._last_words[image]

    def _in_thread(self, image: Image, reason: str, message: str) -> asyncio.Future[None]:
        work: Callable[[], None] = lambda: self._tell(image, reason, message)  # noqa: E731 - bound to its arguments
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _tell(self, image: Image, reason: str, message: str) -> None:
        references = self._names.in_docker(image)
        with suppress(AutoregistryError):
            for cluster in sorted(
                {node.cluster for node in self._nodes.attached(self._names.primary)}
            ):
                with suppress(AutoregistryError):
                    for use in self._nodes.uses(cluster):
                        if use.reference in references and _waits(use):
                            tell(self._nodes, cluster, use, reason, message)


def _waits(use: Use) -> bool:
    return not use.digest
