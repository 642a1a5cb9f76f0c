"""Attaches every k3d cluster that starts (`up --attach-all`), however it was created, and nodes that are added later.

A cluster that is starting is tried again until its API server answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from autoregistry.cluster.nodes import ROLES
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.docker_events import Connected, DockerEvent, NodeStarted

_T = TypeVar("_T")
THREADS = 4
ATTACH_PAUSES_SECONDS = (2.0,) * 44
LIST_PAUSES_SECONDS = (2.0,) * 10


class AutoAttach:
    """Attaches the clusters that run when Docker is connected, and each one of which a node starts later."""

    def __init__(
        self,
        running_clusters: Callable[[], list[str]],
        attach: Callable[[str], object],
        emit: Emit,
    ) -> None:
        self._running_clusters = running_clusters
        self._attach = attach
        self._emit = emit
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._threads = ThreadPoolExecutor(THREADS, "attach")

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case Connected():
                self._tasks[""] = asyncio.create_task(self._attach_running())
            case NodeStarted(_, cluster, role) if cluster and role in ROLES:
                self._start(cluster)

    async def _attach_running(self) -> None:
        async def running() -> list[str] | None:
            try:
                return await self._in_thread(self._running_clusters)
            except AutoregistryError:
                return None

        for cluster in await retry(running, LIST_PAUSES_SECONDS) or []:
            self._start(cluster)

    def _start(self, cluster: str) -> None:
        """A node that starts while its cluster is being attached causes one more round."""
        if cluster in self._tasks:
            self._again.add(cluster)
        else:
            self._tasks[cluster] = asyncio.create_task(self._until_attached(cluster))

    async def _until_attached(self, cluster: str) -> None:
        cause = ""

        async def is_attached() -> bool | None:
            nonlocal cause
            self._again.discard(cluster)
            try:
                await self._in_thread(self._attach, cluster)
            except AutoregistryError as exc:
                cause = exc.message
                return None
            cause = ""
            return cluster not in self._again or None

        await retry(is_attached, ATTACH_PAUSES_SECONDS)
        result = f"could not be attached: {cause}" if cause else "is attached"
        self._emit(Notice(f"cluster {cluster} {result}"))
        del self._tasks[cluster]

    async def _in_thread(self, work: Callable[..., _T], *about: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *about)
