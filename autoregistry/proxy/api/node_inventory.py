"""The state of every node and the images it holds.

Results are kept for two seconds, because `crictl` in a container takes a tenth of a second. A node that does not answer
keeps its column; its images are unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.errors import AutoregistryError
from autoregistry.image_state import NodeState
from autoregistry.names import Image, RegistryNames

NODE_THREADS = 4
MAX_AGE_SECONDS = 2.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NodeCopy:
    """The copy of one image on one node."""

    cluster: str
    node: str
    digest: str
    """Empty if the node has no copy, or does not answer."""
    is_current: bool
    is_known: bool = True
    """False if the node does not answer."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node and its state."""

    cluster: str
    node: str
    state: NodeState


class NodeInventory:
    """Reads the images of the nodes of every attached cluster."""

    def __init__(self, nodes: Nodes, names: RegistryNames) -> None:
        self._nodes = nodes
        self._names = names
        self._threads = ThreadPoolExecutor(NODE_THREADS, "store")
        self._all: list[Node] = []
        self._images: dict[Node, dict[str, frozenset[str]] | None] = {}
        self._updated_at = -MAX_AGE_SECONDS
        self._lock = asyncio.Lock()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def invalidate(self) -> None:
        """Read the nodes again at the next update, because a node has pulled an image."""
        self._updated_at = -MAX_AGE_SECONDS

    async def update(self) -> None:
        """Read every node, unless that was done a moment ago."""
        async with self._lock:
            if time.monotonic() - self._updated_at < MAX_AGE_SECONDS:
                return
            listed = await self._run(self._list)
            if listed is None:  # Docker does not answer: the same nodes, with unknown images
                self._images = dict.fromkeys(self._images)
            else:
                self._all, attached = listed
                reads = [self._run(partial(self._nodes.images_on, node)) for node in attached]
                self._images = dict(zip(attached, await asyncio.gather(*reads), strict=True))
            self._updated_at = time.monotonic()

    def _list(self) -> tuple[list[Node], list[Node]]:
        return self._nodes.all(), self._nodes.attached(self._names.primary)

    async def _run(self, function: Callable[[], _T]) -> _T | None:
        """Return the function's result, or None if the node or Docker does not answer."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except AutoregistryError:
            return None

    def copies(self, image: Image, current: str) -> tuple[NodeCopy, ...]:
        """Return each node's copy of an image as of the last update; `current` is the registry's digest."""
        references = self._names.docker_references(image)
        return tuple(_copy(node, has, references, current) for node, has in self._images.items())

    def nodes(self) -> list[NodeStatus]:
        """Return every node of every cluster as of the last update."""
        return [NodeStatus(node.cluster, node.name, self._state(node)) for node in self._all]

    def _state(self, node: Node) -> NodeState:
        if node in self._images:
            return NodeState.NO_ANSWER if self._images[node] is None else NodeState.OK
        return NodeState.NOT_ATTACHED if node.is_running else NodeState.STOPPED


def _copy(
    node: Node, has: dict[str, frozenset[str]] | None, references: tuple[str, ...], current: str
) -> NodeCopy:
    digests: frozenset[str] = frozenset().union(
        *((has or {}).get(reference, frozenset()) for reference in references)
    )
    digest = current if current in digests else min(digests, default="")
    is_current = bool(digest) and digest == current
    return NodeCopy(node.cluster, node.name, digest, is_current, has is not None)
