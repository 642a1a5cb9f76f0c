"""Nodes that hold an old copy of a changed tag, or have a pod waiting for it, are made to pull it.

A node asks a registry only for what it does not hold (`imagePullPolicy: IfNotPresent` is the default of every
tag but `:latest`), so after a push it would run its old copy for ever. Running pods are not touched. A node that
is down, full or slow keeps nobody waiting: each has a thread of its own, and is named when it fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import Use, Workload
from autoregistry.cluster.workloads import behind, restart
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, NodeRefreshed, WorkloadRestarted
from autoregistry.names import Image, RegistryNames

_T = TypeVar("_T")

THREADS = 8
# Whoever rebuilds in a row gets one refresh for the last build, not one for each.
SETTLE_SECONDS = 0.1


class Nodes(Protocol):
    """What is needed of the clusters (`cluster/nodes.py`); every method blocks."""

    def attached(self, name: str) -> list[Node]: ...
    def held(self, node: Node) -> dict[str, frozenset[str]]: ...
    def uses(self, cluster: str) -> list[Use]: ...
    def pull(self, node: Node, reference: str) -> None: ...
    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str: ...


class Refresh:
    """Brings the nodes to what the registry has."""

    def __init__(
        self, nodes: Nodes, names: RegistryNames, emit: Emit, *, restarts: bool = False
    ) -> None:
        self._restarts = restarts
        self._nodes = nodes
        self._names = names
        self._emit = emit
        self._threads = ThreadPoolExecutor(THREADS, "node")
        self._wanted: dict[Image, str] = {}
        self._running: dict[Image, asyncio.Task[None]] = {}

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def changed(self, image: Image, digest: str) -> None:
        """The registry has this digest under the tag now: nodes with another one pull it."""
        self._wanted[image] = digest
        if image not in self._running:
            self._running[image] = asyncio.create_task(self._follow(image))

    async def _follow(self, image: Image) -> None:
        try:
            while (digest := self._wanted.pop(image, None)) is not None:
                await asyncio.sleep(SETTLE_SECONDS)
                await self.refresh(image, self._wanted.pop(image, digest))
                if self._restarts:
                    await self._restart(image)
        finally:
            del self._running[image]

    async def refresh(self, image: Image, digest: str) -> list[NodeRefreshed]:
        """Have every node pull that needs to; what became of each."""
        attached = await self._in_thread(lambda: self._nodes.attached(self._names.primary))
        if attached is None:
            return []
        clusters = sorted({node.cluster for node in attached})
        waiting = [
            node_name
            for found in await asyncio.gather(*(self._waiting(c, image) for c in clusters))
            for node_name in found
        ]
        done = await asyncio.gather(
            *(self._one(node, image, digest, has_waiting=node.name in waiting) for node in attached)
        )
        return [event for event in done if event is not None]

    async def _restart(self, image: Image) -> None:
        """What runs an old copy is restarted, where that was asked for."""
        references = frozenset(self._names.in_docker(image))
        attached = await self._in_thread(lambda: self._nodes.attached(self._names.primary)) or []
        for cluster in sorted({node.cluster for node in attached}):
            members = [node for node in attached if node.cluster == cluster]
            for workload in (
                await self._in_thread(partial(self._restart_in, cluster, members, references)) or []
            ):
                self._emit(WorkloadRestarted(cluster, str(workload), image))

    def _restart_in(
        self, cluster: str, members: list[Node], references: frozenset[str]
    ) -> list[Workload]:
        found = behind(self._nodes, cluster, members, references).restart
        for workload in found:
            restart(self._nodes, cluster, workload)
        return list(found)

    async def _waiting(self, cluster: str, image: Image) -> Iterable[str]:
        """The nodes that have a pod waiting for this image."""
        references = self._names.in_docker(image)
        uses = await self._in_thread(lambda: self._nodes.uses(cluster)) or []
        return {u.node for u in uses if u.waiting_because and u.reference in references}

    async def _one(
        self, node: Node, image: Image, digest: str, *, has_waiting: bool
    ) -> NodeRefreshed | None:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        references = self._names.in_docker(image)

        def pull() -> bool:
            held = self._nodes.held(node)
            old = [r for r in references if r in held and digest not in held[r]]
            if not old and has_waiting:
                old = [references[0]]
            for reference in old:
                self._nodes.pull(node, reference)
            return bool(old)

        cause = ""
        try:
            if not await loop.run_in_executor(self._threads, pull):
                return None
        except AutoregistryError as exc:
            cause = exc.message
        seconds = time.monotonic() - began
        event = NodeRefreshed(node.cluster, node.name, image, digest, seconds, cause)
        self._emit(event)
        return event

    async def _in_thread(self, question: Callable[[], list[_T]]) -> list[_T] | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except AutoregistryError:
            return None  # Docker, or that cluster's server, is away: there is nobody to refresh
