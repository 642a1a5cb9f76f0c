"""Makes nodes pull an image that has changed, if they have an old copy of it or a pod that waits for it.

A node asks a registry only for images that it does not have (`imagePullPolicy: IfNotPresent` is the default of every
tag except `:latest`), so after a push it would keep its old copy. Running pods are not touched. A node that is down,
full or slow is reported. It delays neither the other nodes nor its own next image.
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
from autoregistry.image_state import RefreshState
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.background import Background
from autoregistry.proxy.retry import retry

_T = TypeVar("_T")

REFRESH_THREADS = 32
# A node that hangs blocks at most this many threads, however many images change.
PULLS_PER_NODE = 2
# Several builds in a row cause one refresh, for the last of them.
SETTLE_SECONDS = 0.1
# A node that takes longer is reported, and nothing waits for it any more. Its pull continues.
LATE_SECONDS = 30.0
# Docker may be too busy to list the nodes.
NODE_LIST_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)
# A node that failed is tried again. So is a node with a pod that is being created, which may pull the previous image.
RECHECK_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(slots=True)
class _Rollout:
    """The refresh of all nodes for one digest of a tag."""

    image: Image
    digest: str
    newest_at_start: str | None
    """The newest known digest of the tag at the start. The rollout ends when a newer one is known."""
    states: dict[Node, RefreshState] = field(default_factory=dict)
    """The results so far, without nodes that are not attached."""
    reports: dict[Node, NodeRefreshed] = field(default_factory=dict)
    """The last report about each node."""
    clusters: set[str] = field(default_factory=set)
    """The clusters in which a node has the image, or a pod waits for it."""
    uses: dict[str, asyncio.Task[list[ContainerUse]]] = field(default_factory=dict)
    """The pods' images by cluster: requested once for all its nodes."""
    restarts_late_nodes: bool = False
    """True once the workloads have been restarted: a node that is refreshed after that needs another restart."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The result of an attempt that did not fail."""

    has_pulled: bool
    is_final: bool
    """False if a pull that is still running may put the old image back."""


class NodeRefresher:
    """Refreshes the nodes after a tag of the registry has changed."""

    def __init__(
        self,
        nodes: Nodes,
        names: RegistryNames,
        emit: Emit,
        background: Background,
        *,
        restarts: bool = False,
    ) -> None:
        self._nodes = nodes
        self._names = names
        self._emit = emit
        self._background = background
        self._restarts = restarts
        self._threads = ThreadPoolExecutor(REFRESH_THREADS, "node")
        self._newest: dict[Image, str] = {}
        self._settling: set[Image] = set()
        self._locks: WeakValueDictionary[tuple[str, Image], asyncio.Lock] = WeakValueDictionary()
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(PULLS_PER_NODE)
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def changed(self, image: Image, digest: str) -> None:
        """Roll out this digest, which the registry now has under the tag, unless another one follows at once."""
        self._newest[image] = digest
        if image not in self._settling:
            self._settling.add(image)
            self._start(self._settle(image))

    async def _settle(self, image: Image) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        self._settling.discard(image)
        await self.roll_out(image, self._newest[image])

    async def roll_out(self, image: Image, digest: str, *, node: str = "") -> None:
        """Refresh all nodes, or only this one, and restart what runs an old copy if that is enabled."""
        rollout = _Rollout(image, digest, self._newest.get(image))
        try:
            await self._refresh_nodes(rollout, lambda other: node in ("", other.name))
        finally:
            rollout.restarts_late_nodes = self._restarts
        if self._restarts:
            await self._restart_outdated(rollout)

    async def refresh(
        self, image: Image, digest: str, *, cluster: str = ""
    ) -> list[tuple[NodeRefreshed, RefreshState]]:
        """Refresh all nodes, or only those of this cluster. Return the report and state of nodes in need of it.

        When a newer digest becomes known in the meantime, the nodes are refreshed for that one.
        """
        results: dict[Node, tuple[NodeRefreshed, RefreshState]] = {}
        while True:
            rollout = _Rollout(image, digest, self._newest.get(image))
            await self._refresh_nodes(rollout, lambda node: cluster in ("", node.cluster))
            for node, report in rollout.reports.items():
                results[node] = (report, rollout.states.get(node, RefreshState.PENDING))
            newest = self._newest.get(image)
            if newest in (None, rollout.newest_at_start) or any(
                state is RefreshState.PENDING for _, state in results.values()
            ):
                return list(results.values())
            digest = newest

    async def _refresh_nodes(self, rollout: _Rollout, is_included: Callable[[Node], bool]) -> None:
        nodes = [node for node in await self._list_nodes(rollout.image) if is_included(node)]
        running = [node for node in nodes if node.is_running]
        refreshes = [self._start(self._refresh_node(rollout, node)) for node in running]
        if refreshes:
            await asyncio.wait(refreshes, timeout=LATE_SECONDS)
        for node in [n for n, state in rollout.states.items() if state is RefreshState.PENDING]:
            self._report(rollout, node, LATE_SECONDS, f"not finished after {LATE_SECONDS:.0f} s")
        down = {n.name for n in nodes if not n.is_running and n.cluster in rollout.clusters}
        for node in await self._list_nodes(rollout.image) if down else []:
            if node.name in down and not node.is_running:  # it may have started in the meantime
                rollout.states[node] = RefreshState.UNAVAILABLE
                self._report(rollout, node, 0.0, node.unavailable_because)

    async def _list_nodes(self, image: Image) -> list[Node]:
        nodes = await retry(lambda: self._try(self._nodes.all), NODE_LIST_PAUSES_SECONDS)
        if nodes is None:
            self._emit(Notice(f"Docker did not list the nodes. Run: autoregistry refresh {image}"))
        return nodes or []

    async def _refresh_node(self, rollout: _Rollout, node: Node) -> None:
        """Refresh one node. If the result is not final, the node is checked again in the background."""
        if not await self._attempt(rollout, node):
            self._start(self._recheck(rollout, node))

    async def _recheck(self, rollout: _Rollout, node: Node) -> None:
        """Refresh a node again after each pause, until the result is final."""
        for pause in RECHECK_PAUSES_SECONDS:
            await asyncio.sleep(pause)
            rollout.uses.pop(node.cluster, None)
            if await self._attempt(rollout, node):
                return

    async def _attempt(self, rollout: _Rollout, node: Node) -> bool:
        """Make a node pull if it needs to, and report the result. Return True if it is final."""
        began = time.monotonic()
        try:
            attempt = await self._pull_in_turn(rollout, node)
        except AutoregistryError as exc:
            self._fail(rollout, node, time.monotonic() - began, _cause(node, exc.message))
            return False
        if attempt is None:
            rollout.states.pop(node, None)
            return True
        before = rollout.states[node]
        rollout.states[node] = RefreshState.CURRENT
        if rollout.restarts_late_nodes and _is_refreshed(before, has_pulled=attempt.has_pulled):
            self._start(self._restart_outdated(rollout))
        if attempt.has_pulled:
            self._report(rollout, node, time.monotonic() - began, "")
        return attempt.is_final

    def _fail(self, rollout: _Rollout, node: Node, seconds: float, cause: str) -> None:
        """Note a failure, and report it unless the previous attempt failed with the same cause."""
        has_failed = rollout.states.get(node) is RefreshState.FAILED
        rollout.states[node] = RefreshState.FAILED
        if not has_failed or rollout.reports[node].cause != cause:
            self._report(rollout, node, seconds, cause)

    async def _pull_in_turn(self, rollout: _Rollout, node: Node) -> _Attempt | None:
        """Make a node pull if it needs to. Raises AutoregistryError.

        Return None if the node is not attached, or a newer digest than that of the rollout is known.
        """
        if not await self._call(self._nodes.endpoints, node, self._names.primary):
            return None
        rollout.states.setdefault(node, RefreshState.PENDING)
        lock = self._locks.setdefault((node.name, rollout.image), asyncio.Lock())
        async with lock, self._slots[node.name]:
            if self._newest.get(rollout.image) != rollout.newest_at_start:
                return None
            return await self._pull_if_needed(rollout, node)

    async def _pull_if_needed(self, rollout: _Rollout, node: Node) -> _Attempt:
        digests = await self._call(self._nodes.images_on, node)
        uses = self._start(
            self._uses_on(node, rollout)
        )  # not awaited yet: an old copy decides alone
        copies = [r for r in self._names.docker_references(rollout.image) if r in digests]
        old = [reference for reference in copies if rollout.digest not in digests[reference]]
        waiting = [] if old else [use for use in await uses if use.waiting_because]
        if copies or waiting:
            rollout.clusters.add(node.cluster)
        to_pull = old or sorted({use.reference for use in waiting})
        if to_pull and rollout.states[node] is not RefreshState.FAILED:
            self._emit(NodeRefreshing(node.cluster, node.name, rollout.image))
        for reference in to_pull:
            await self._call(self._nodes.pull, node, reference)
        if waiting:
            with suppress(AutoregistryError):  # they have been deleted, or start by themselves
                await self._call(wake_pods, self._nodes, node.cluster, waiting, rollout.digest)
        starting = [use for use in await uses if not use.waiting_because]
        may_revert = any(not use.digest or not copies for use in starting)
        return _Attempt(has_pulled=bool(to_pull), is_final=not may_revert)

    async def _uses_on(self, node: Node, rollout: _Rollout) -> list[ContainerUse]:
        """Return the uses of the image by the node's pods; none if the cluster's API server does not answer."""
        if node.cluster not in rollout.uses:
            rollout.uses[node.cluster] = self._start(self._uses_in(node.cluster))
        references = self._names.docker_references(rollout.image)
        uses = await rollout.uses[node.cluster]
        return [use for use in uses if use.node == node.name and use.reference in references]

    async def _uses_in(self, cluster: str) -> list[ContainerUse]:
        return await self._try(self._nodes.container_uses, cluster) or []

    def _report(self, rollout: _Rollout, node: Node, seconds: float, cause: str) -> None:
        event = NodeRefreshed(
            node.cluster, node.name, rollout.image, rollout.digest, seconds, cause
        )
        rollout.reports[node] = event
        self._emit(event)

    async def _restart_outdated(self, rollout: _Rollout) -> None:
        """Restart what runs an old copy, except on nodes that do not have the new one yet."""
        behind = {n.name for n, state in rollout.states.items() if state != RefreshState.CURRENT}
        references = frozenset(self._names.docker_references(rollout.image))
        registry = self._names.primary
        restarted = await self._try(restart_outdated, self._nodes, registry, references, behind)
        for cluster, workload in restarted or []:
            self._emit(WorkloadRestarted(cluster, str(workload), rollout.image))

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task that goes on if nothing awaits it any more."""
        return self._background.once("refresh of nodes", work)

    async def _try(self, function: Callable[..., _T], *args: Any) -> _T | None:  # noqa: ANN401  # as in `_call`
        """Call a function in a thread. Return None if Docker or the cluster does not answer."""
        try:
            return await self._call(function, *args)
        except AutoregistryError:
            return None

    async def _call(self, function: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401  # the function's own arguments
        """Call a function, which blocks, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args))


def _is_refreshed(before: RefreshState, *, has_pulled: bool) -> bool:
    """Return True if a successful attempt has changed the state of its node."""
    match before:
        case RefreshState.PENDING:  # its first attempt has ended
            return True
        case RefreshState.FAILED:  # it has recovered, perhaps by a pull of its own
            return True
        case _:  # it had the image: a pull means that an earlier one had put the old image back
            return has_pulled


def _cause(node: Node, message: str) -> str:
    """Return the message of a node's error without what the report says anyway: `NODE cannot ...: `."""
    text = message.removeprefix(f"{node.name} ")
    return text.partition(": ")[2] if text.startswith("cannot ") else text
