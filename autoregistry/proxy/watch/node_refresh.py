"""Makes nodes pull an image that has changed, if they have an old copy of it or a pod that waits for it.

A node asks a registry only for images that it does not have (`imagePullPolicy: IfNotPresent` is the default of every
tag except `:latest`), so after a push it would keep its old copy. Running pods are not touched. A node that is down,
full or slow is reported. It delays neither the other nodes nor its own next image.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import ContainerUse
from autoregistry.cluster.workloads import by_cluster, restart_outdated, wake_pods
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, NodeRefreshed, NodeRefreshing, Notice, WorkloadRestarted
from autoregistry.image_state import RefreshState
from autoregistry.names import Image
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.async_nodes import AsyncNodes, or_none

_T = TypeVar("_T")

# Several builds in a row cause one refresh, for the last of them.
SETTLE_SECONDS = 0.1
# A node that takes longer is reported, and nothing waits for it any more. Its pull continues.
LATE_SECONDS = 30.0
# Docker may be too busy to list the nodes.
NODE_LIST_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)
# A node that failed is tried again. So is a node with a pod that is being created, which may pull the previous image.
RECHECK_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(slots=True, weakref_slot=True)
class _Tag:
    """The newest known digest of a tag. It is forgotten with the last rollout that refers to it."""

    newest: str | None = None
    is_settling: bool = False


@dataclass(slots=True)
class _Rollout:
    """The refresh of all nodes for one digest of a tag."""

    image: Image
    digest: str
    tag: _Tag
    newest_at_start: str | None
    states: dict[Node, RefreshState] = field(default_factory=dict)
    """The results so far, without nodes that are not attached."""
    reports: dict[Node, NodeRefreshed] = field(default_factory=dict)
    """The last report about each node."""
    clusters: set[str] = field(default_factory=set)
    """The clusters in which a node has the image, or a pod waits for it."""
    restarts_late_nodes: bool = False
    """True once the workloads have been restarted: a node that is refreshed after that needs another restart."""

    @property
    def is_outdated(self) -> bool:
        """Return True if a newer digest has become known. The rollout ends."""
        return self.tag.newest != self.newest_at_start


@dataclass(slots=True, eq=False)
class NodeRefresher:
    """Refreshes the nodes after a tag of the registry has changed."""

    nodes: AsyncNodes
    emit: Emit
    restarts: bool = False
    _tags: WeakValueDictionary[Image, _Tag] = field(default_factory=WeakValueDictionary)
    _locks: WeakValueDictionary[tuple[str, Image], asyncio.Lock] = field(
        default_factory=WeakValueDictionary
    )

    def changed(self, image: Image, digest: str) -> None:
        """Roll out this digest, which the registry now has under the tag, unless another one follows at once."""
        tag = self._tags.setdefault(image, _Tag())
        tag.newest = digest
        if not tag.is_settling:
            tag.is_settling = True
            self._start(self._settle(image, tag))

    async def _settle(self, image: Image, tag: _Tag) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        tag.is_settling = False
        await self.roll_out(image, tag.newest or "")

    def _rollout(self, image: Image, digest: str) -> _Rollout:
        tag = self._tags.setdefault(image, _Tag())
        return _Rollout(image, digest, tag, tag.newest)

    async def roll_out(self, image: Image, digest: str, *, node: str = "") -> None:
        """Refresh all nodes, or only this one, and restart what runs an old copy if that is enabled."""
        rollout = self._rollout(image, digest)
        try:
            await self._refresh_nodes(rollout, lambda other: node in ("", other.name))
        finally:
            rollout.restarts_late_nodes = self.restarts
        if self.restarts:
            await self._restart_outdated(rollout)

    async def refresh(
        self, image: Image, digest: str, *, cluster: str = ""
    ) -> list[tuple[NodeRefreshed, RefreshState]]:
        """Refresh all nodes, or only those of this cluster. Return the report and state of nodes in need of it.

        When a newer digest becomes known in the meantime, the nodes are refreshed for that one.
        """
        results: dict[Node, tuple[NodeRefreshed, RefreshState]] = {}
        while True:
            rollout = self._rollout(image, digest)
            await self._refresh_nodes(rollout, lambda node: cluster in ("", node.cluster))
            for node, report in rollout.reports.items():
                results[node] = (report, rollout.states.get(node, RefreshState.PENDING))
            is_pending = any(state is RefreshState.PENDING for _, state in results.values())
            if not rollout.is_outdated or is_pending:
                return list(results.values())
            digest = rollout.tag.newest or ""

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
        nodes = await retry(lambda: or_none(self.nodes.all()), NODE_LIST_PAUSES_SECONDS)
        if nodes is None:
            self.emit(Notice(f"Docker did not list the nodes. Run: autoregistry refresh {image}"))
        return nodes or []

    async def _refresh_node(self, rollout: _Rollout, node: Node) -> None:
        """Refresh one node. If the result is not final, the node is checked again in the background."""
        if not await self._attempt(rollout, node):
            self._start(self._recheck(rollout, node))

    async def _recheck(self, rollout: _Rollout, node: Node) -> None:
        """Refresh a node again after each pause, until the result is final."""
        for pause in RECHECK_PAUSES_SECONDS:
            await asyncio.sleep(pause)
            if await self._attempt(rollout, node):
                return

    async def _attempt(self, rollout: _Rollout, node: Node) -> bool:
        """Make a node pull if it needs to, and report the result. Return True if it is final."""
        began = time.monotonic()
        try:
            result = await self._pull_in_turn(rollout, node)
        except AutoregistryError as exc:
            self._fail(rollout, node, time.monotonic() - began, _cause(node, exc.message))
            return False
        if result is None:
            rollout.states.pop(node, None)
            return True
        has_pulled, is_final = result
        before = rollout.states[node]
        rollout.states[node] = RefreshState.CURRENT
        # A node that had the image already needs a restart only if it had to pull: an earlier pull of its own had put
        # the old image back.
        is_refreshed = before is not RefreshState.CURRENT or has_pulled
        if rollout.restarts_late_nodes and is_refreshed:
            self._start(self._restart_outdated(rollout))
        if has_pulled:
            self._report(rollout, node, time.monotonic() - began, "")
        return is_final

    def _fail(self, rollout: _Rollout, node: Node, seconds: float, cause: str) -> None:
        """Note a failure, and report it unless the previous attempt failed with the same cause."""
        has_failed = rollout.states.get(node) is RefreshState.FAILED
        rollout.states[node] = RefreshState.FAILED
        if not has_failed or rollout.reports[node].cause != cause:
            self._report(rollout, node, seconds, cause)

    async def _pull_in_turn(self, rollout: _Rollout, node: Node) -> tuple[bool, bool] | None:
        """Make a node pull if it needs to. Return `(has_pulled, is_final)`. Raises AutoregistryError.

        Return None if the node is not attached, or a newer digest than that of the rollout is known.
        """
        if not await self.nodes.is_attached(node):
            return None
        rollout.states.setdefault(node, RefreshState.PENDING)
        lock = self._locks.setdefault((node.name, rollout.image), asyncio.Lock())
        async with lock:
            return None if rollout.is_outdated else await self._pull_if_needed(rollout, node)

    async def _pull_if_needed(self, rollout: _Rollout, node: Node) -> tuple[bool, bool]:
        """Return `(has_pulled, is_final)`: not final if a pull that is still running may put the old image back."""
        digests = await self.nodes.images(node)
        # Not awaited yet: an old copy decides alone.
        uses = self._start(self._uses_on(node, rollout.image))
        copies = [r for r in self.nodes.names.docker_references(rollout.image) if r in digests]
        old = [reference for reference in copies if rollout.digest not in digests[reference]]
        waiting = [] if old else [use for use in await uses if use.waiting_because]
        if copies or waiting:
            rollout.clusters.add(node.cluster)
        to_pull = old or sorted({use.reference for use in waiting})
        if to_pull and rollout.states[node] is not RefreshState.FAILED:
            self.emit(NodeRefreshing(node.cluster, node.name, rollout.image))
        for reference in to_pull:
            await self.nodes.pull(node, reference)
        if waiting:  # unless they have been deleted, or start by themselves
            await or_none(self.nodes.change(node.cluster, wake_pods, waiting, rollout.digest))
        starting = [use for use in await uses if not use.waiting_because]
        may_revert = any(not use.digest or not copies for use in starting)
        return bool(to_pull), not may_revert

    async def _uses_on(self, node: Node, image: Image) -> list[ContainerUse]:
        """Return the uses of the image by the node's pods; none if the cluster's API server does not answer."""
        references = self.nodes.names.docker_references(image)
        uses = await or_none(self.nodes.uses(node.cluster)) or []
        return [use for use in uses if use.node == node.name and use.reference in references]

    def _report(self, rollout: _Rollout, node: Node, seconds: float, cause: str) -> None:
        event = NodeRefreshed(
            node.cluster, node.name, rollout.image, rollout.digest, seconds, cause
        )
        rollout.reports[node] = event
        self.emit(event)

    async def _restart_outdated(self, rollout: _Rollout) -> None:
        """Restart what runs an old copy on the nodes that have the new one."""
        current = [node for node, s in rollout.states.items() if s is RefreshState.CURRENT]
        restarts = (self._restart_in(*members, rollout) for members in by_cluster(current).items())
        await asyncio.gather(*restarts)

    async def _restart_in(self, cluster: str, members: list[Node], rollout: _Rollout) -> None:
        references = frozenset(self.nodes.names.docker_references(rollout.image))
        restart = self.nodes.change(cluster, restart_outdated, members, references)
        for workload in await or_none(restart) or []:
            self.emit(WorkloadRestarted(cluster, str(workload), rollout.image))

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task that goes on if nothing awaits it any more."""
        return self.nodes.background.once("refresh of nodes", work)


def _cause(node: Node, message: str) -> str:
    """Return the message of a node's error without what the report says anyway: `NODE cannot ...: `."""
    text = message.removeprefix(f"{node.name} ")
    return text.partition(": ")[2] if text.startswith("cannot ") else text
