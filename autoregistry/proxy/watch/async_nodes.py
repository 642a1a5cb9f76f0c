"""The asynchronous interface to the nodes of k3d clusters.

A node or an API server that hangs takes no thread from another one, and what is queried of it at the same time is
queried once: 64 images that changed together cause one `crictl images` in each node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.cluster.pods import ContainerUse
from autoregistry.errors import AutoregistryError
from autoregistry.names import RegistryNames
from autoregistry.proxy.background import Background

NodeImages = dict[str, frozenset[str]]
"""References, with the digests that a node has of their repositories."""
_T = TypeVar("_T")
# Queries of the same thing within this time share one call.
GATHER_SECONDS = 0.02


async def or_none(work: Awaitable[_T]) -> _T | None:
    """Return the result of `work`, or None if Docker, the node or the cluster does not answer."""
    try:
        return await work
    except AutoregistryError:
        return None


@dataclass(slots=True, eq=False)
class AsyncNodes:
    """Queries and changes the nodes of all clusters. Every method raises AutoregistryError."""

    nodes: Nodes
    names: RegistryNames
    background: Background
    _next: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    """The queries that have not begun."""

    async def all(self) -> list[Node]:
        """Return every server and agent, running or not."""
        return await self._query("list of nodes", self.nodes.all)

    async def is_attached(self, node: Node) -> bool:
        """Return True if a running node pulls from this registry."""
        registry = self.names.primary
        return bool(
            await self._query(f"mirrors of {node.name}", self.nodes.endpoints, node, registry)
        )

    async def attached(self) -> list[Node]:
        """Return the attached nodes that are running, without those that hang."""
        nodes = [node for node in await self.all() if node.is_running]
        answers = await asyncio.gather(*(or_none(self.is_attached(node)) for node in nodes))
        return [node for node, is_attached in zip(nodes, answers, strict=True) if is_attached]

    async def images(self, node: Node) -> NodeImages:
        """Return the images of a node."""
        return await self._query(f"images of {node.name}", self.nodes.images_on, node)

    async def uses(self, cluster: str) -> list[ContainerUse]:
        """Return the images that the cluster's pods use or wait for."""
        return await self._query(f"pods of {cluster}", self.nodes.container_uses, cluster)

    async def pull(self, node: Node, reference: str) -> None:
        """Make the node pull, even if it has a copy."""
        await self.background.in_thread(f"pulls of {node.name}", self.nodes.pull, node, reference)

    async def change(self, cluster: str, function: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401  # the function's own arguments
        """Call a function of `cluster/workloads.py` with the nodes, the cluster and these arguments."""
        name = f"changes of {cluster}"
        return await self.background.in_thread(name, function, self.nodes, cluster, *args)

    async def _query(self, name: str, function: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401
        """Share a call with all who query the same before it begins: later, its result may be out of date."""
        if name not in self._next:
            call = self._call_next(name, partial(function, *args))
            self._next[name] = self.background.once(name, call)
        result = await asyncio.shield(self._next[name])
        if isinstance(result, AutoregistryError):
            raise result
        return cast("_T", result)

    async def _call_next(self, name: str, function: Callable[[], _T]) -> _T | AutoregistryError:
        await asyncio.sleep(GATHER_SECONDS)

        def call() -> _T:
            del self._next[name]
            return function()

        try:
            return await self.background.in_thread(name, call)
        except AutoregistryError as exc:
            return exc
