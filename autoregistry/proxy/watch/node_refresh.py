"""Nodes that hold an old copy of a changed tag, or have a pod waiting for it, are made to pull it.

A node asks a registry only for what it does not hold (`imagePullPolicy: IfNotPresent` is the default of every
tag but `:latest`), so after a push it would run its old copy for ever. Running pods are not touched. A node that
is down, full or slow keeps nobody waiting, not even its own next image, and is named.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.cluster.pods import ContainerUse
from autoregistry.cluster.workloads import restart_outdated, wake_pods
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, NodeRefreshed, NodeRefreshing, Notice, WorkloadRestarted
from autoregistry.names import Image, RegistryNames

_T = TypeVar("_T")

THREADS = 32
# A node that hangs keeps so many threads, however many images change.
AT_ONCE_ON_A_NODE = 2
# Whoever rebuilds in a row gets one refresh for the last build, not one for each.
SETTLE_SECONDS = 0.1
# A node that takes longer is named, and waited for by nobody; it goes on.
LATE_SECONDS = 30.0
# Docker may be too busy to say which nodes there are.
AGAIN_SECONDS = (1.0, 2.0, 4.0, 8.0)
# A pod being created may pull what the tag was before, a node may be in trouble: it is looked at until that is over.
LOOK_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(slots=True)
class _Rollout:
    """One change of one tag, on its way to the nodes."""

    image: Image
    digest: str
    references: tuple[str, ...]
    latest: str | None
    """The last digest that was known when it began; where there is a newer one, it ends."""
    told: dict[str, NodeRefreshed] = field(default_factory=dict)
    """What was last said of each node."""
    concerned: set[str] = field(default_factory=set)
    """The clusters in which somebody holds the image, or waits for it."""
    busy: set[Node] = field(default_factory=set)
    """The attached nodes that have not yet said how it went."""
    pods: dict[str, asyncio.Task[list[ContainerUse]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """The names of those that could not, and why."""
    is_over: bool = False
    """Nobody waits for those that are busy any more."""


class NodeRefresher:
    """Brings the nodes to what the registry has."""

    def __init__(
        self, nodes: Nodes, names: RegistryNames, emit: Emit, *, restarts: bool = False
    ) -> None:
        self._restarts = restarts
        self._nodes = nodes
        self._names = names
        self._emit = emit
        self._threads = ThreadPoolExecutor(THREADS, "node")
        self._running: dict[Image, asyncio.Task[None]] = {}
        self._latest: dict[Image, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks: WeakValueDictionary[tuple[str, Image], asyncio.Lock] = WeakValueDictionary()
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(AT_ONCE_ON_A_NODE)
        )

    def close(self) -> None:
        for task in (*self._running.values(), *self._tasks):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def changed(self, image: Image, digest: str) -> None:
        """The registry has this digest under the tag now: nodes with another one pull it."""
        self._latest[image] = digest
        if image not in self._running:
            self._running[image] = asyncio.create_task(self._settle(image))

    async def _settle(self, image: Image) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        del self._running[image]
        self._go_on(self.bring(image, self._latest[image]))

    def _go_on(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Until it ends, or we do, whether or not somebody waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def bring(self, image: Image, digest: str, only: str | None = None) -> None:
        """Refresh, and restart what runs an old copy where that was asked for."""
        this = await self._go_round(image, digest, only)
        if self._restarts:
            await self._restart(this)

    async def refresh(
        self, image: Image, digest: str, only: str | None = None
    ) -> list[NodeRefreshed]:
        """Have every node pull that needs to, or `only` the one of that name; what became of each."""
        return list((await self._go_round(image, digest, only)).told.values())

    async def _go_round(self, image: Image, digest: str, only: str | None) -> _Rollout:
        references = tuple(self._names.docker_references(image))
        this = _Rollout(image, digest, references, self._latest.get(image))
        nodes = [node for node in await self._everybody(image) if only in (None, node.name)]
        running = [node for node in nodes if node.is_running]
        tasks = {node: self._go_on(self._one(this, node, *LOOK_SECONDS)) for node in running}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=LATE_SECONDS)
        finally:
            this.is_over = True
        for node in [node for node in this.busy if not tasks[node].done()]:
            self._tell(this, node, LATE_SECONDS, f"it is still at it after {LATE_SECONDS:.0f} s")
        away = {
            node.name
            for node in nodes
            if node.unavailable_because and node.cluster in this.concerned
        }
        for node in await self._everybody(image) if away else ():  # it may be back by now
            if node.unavailable_because and node.name in away:
                self._tell(this, node, 0.0, node.unavailable_because)
        return this

    async def _everybody(self, image: Image) -> list[Node]:
        for pause in AGAIN_SECONDS:
            if (found := await self._in_thread(self._nodes.all)) is not None:
                return found
            await asyncio.sleep(pause)
        self._emit(Notice(f"Docker does not name the nodes: autoregistry refresh {image}"))
        return []

    async def _one(self, this: _Rollout, node: Node, *looks: float) -> None:
        began, cause = time.monotonic(), ""
        is_late, before = this.is_over, this.failed.get(node.name)
        try:
            if not await self._ask(self._nodes.endpoints, node, self._names.primary):
                return
            this.busy.add(node)
            lock = self._locks.setdefault((node.name, this.image), asyncio.Lock())
            async with lock, self._turns[node.name]:
                if self._latest.get(this.image) != this.latest:
                    return
                has_pulled, is_unsure = await self._pull(this, node)
            this.failed.pop(node.name, None)
        except AutoregistryError as exc:
            has_pulled, is_unsure, cause = False, True, _cause(node, exc.message)
            this.failed[node.name] = cause
        finally:
            this.busy.discard(node)
        if is_unsure and looks:
            self._go_on(self._look_again(this, node, *looks))
        # What the round itself restarted was without this node.
        if not cause and this.is_over and (has_pulled or before or not is_late) and self._restarts:
            self._go_on(self._restart(this))
        if not has_pulled and cause in ("", before):
            return
        self._tell(this, node, time.monotonic() - began, cause)

    async def _look_again(self, this: _Rollout, node: Node, pause: float, *looks: float) -> None:
        await asyncio.sleep(pause)
        this.pods.pop(node.cluster, None)
        await self._one(this, node, *looks)

    async def _pull(self, this: _Rollout, node: Node) -> tuple[bool, bool]:
        """Whether it had to, and whether a pull of before may yet end last. Raises AutoregistryError."""
        held = await self._ask(self._nodes.images_on, node)
        asking = self._go_on(self._pods(this, node))
        holding = [r for r in this.references if r in held]
        old = [r for r in holding if this.digest not in held[r]]
        waiting = [] if old else [use for use in await asking if use.waiting_because]
        if holding or waiting:
            this.concerned.add(node.cluster)
        if waiting:
            old = sorted({use.reference for use in waiting})
        if old and node.name not in this.failed:
            self._emit(NodeRefreshing(node.cluster, node.name, this.image))
        for reference in old:
            await self._ask(self._nodes.pull, node, reference)
        if waiting:
            with suppress(AutoregistryError):  # they are gone, or wake up by themselves
                await self._ask(wake_pods, self._nodes, node.cluster, waiting, this.digest)
        starting = [use for use in await asking if not use.waiting_because]
        return bool(old), any(not use.digest or not holding for use in starting)

    async def _pods(self, this: _Rollout, node: Node) -> list[ContainerUse]:
        """The uses of the image by pods on this node; a cluster is asked once for all its nodes."""
        if node.cluster not in this.pods:
            this.pods[node.cluster] = asyncio.create_task(self._uses(node.cluster))
        found = await this.pods[node.cluster]
        return [u for u in found if u.node == node.name and u.reference in this.references]

    async def _uses(self, cluster: str) -> list[ContainerUse]:
        return await self._in_thread(lambda: self._nodes.container_uses(cluster)) or []

    def _tell(self, this: _Rollout, node: Node, seconds: float, cause: str) -> None:
        event = NodeRefreshed(node.cluster, node.name, this.image, this.digest, seconds, cause)
        this.told[node.name] = event
        self._emit(event)

    async def _restart(self, this: _Rollout) -> None:
        """What runs an old copy is restarted, except on nodes that have not got the new one."""
        without = {*this.failed, *(node.name for node in this.busy)}
        references = frozenset(this.references)
        work = partial(restart_outdated, self._nodes, self._names.primary, references, without)
        for cluster, workload in await self._in_thread(work) or []:
            self._emit(WorkloadRestarted(cluster, str(workload), this.image))

    async def _ask(self, question: Callable[..., _T], *about: Any) -> _T:  # noqa: ANN401  # whatever it takes
        """In a thread: all of it blocks."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(question, *about))

    async def _in_thread(self, question: Callable[[], list[_T]]) -> list[_T] | None:
        try:
            return await self._ask(question)
        except AutoregistryError:
            return None  # Docker, or that cluster's server, is away: there is nobody to refresh


def _cause(node: Node, message: str) -> str:
    """An error of a node's without what the event says anyway: which node, and that it should have pulled."""
    said = message.removeprefix(f"{node.name} ")
    return said.partition(": ")[2] if said.startswith("cannot ") else said
