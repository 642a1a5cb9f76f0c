"""The state of every node and the images it holds.

Results are kept for two seconds, because `crictl` in a container takes a tenth of a second. A node that does not answer
keeps its column; its images are unknown.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from autoregistry.cluster.nodes import Node
from autoregistry.errors import AutoregistryError
from autoregistry.image_state import NodeState
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.watch.async_nodes import AsyncNodes, NodeImages, or_none

MAX_AGE_SECONDS = 2.0
# A node that takes longer does not answer: the page and `images` must not wait for a node that hangs.
READ_SECONDS = 10.0


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


class NodeInventory:
    """Reads the images of the nodes of every attached cluster."""

    def __init__(self, nodes: AsyncNodes, names: RegistryNames) -> None:
        self._nodes = nodes
        self._names = names
        self._all: list[Node] = []
        self._images: dict[Node, NodeImages | None] = {}
        """The images of attached nodes; None for a node that does not answer."""
        self._updated_at = -MAX_AGE_SECONDS
        self._lock = asyncio.Lock()

    def invalidate(self) -> None:
        """Read the nodes again at the next update, because a node has pulled an image."""
        self._updated_at = -MAX_AGE_SECONDS

    async def update(self) -> None:
        """Read every node, unless that was done a moment ago."""
        async with self._lock:
            if time.monotonic() - self._updated_at < MAX_AGE_SECONDS:
                return
            nodes = await or_none(self._nodes.all())
            if nodes is None:  # Docker does not answer: the same nodes, with unknown images
                self._images = dict.fromkeys(self._images)
            else:
                reads = await asyncio.gather(*(self._read(n) for n in nodes if n.is_running))
                self._all, self._images = nodes, {n: held for read in reads for n, held in read}
            self._updated_at = time.monotonic()

    async def _read(self, node: Node) -> list[tuple[Node, NodeImages | None]]:
        """Return a node with its images, or nothing if it is not attached."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                if not await self._nodes.is_attached(node):
                    return []
                return [(node, await self._nodes.images(node))]
        except (AutoregistryError, TimeoutError):
            return [(node, None)]

    def copies(self, image: Image, current: str) -> tuple[NodeCopy, ...]:
        """Return each node's copy of an image as of the last update; `current` is the registry's digest."""
        references = self._names.docker_references(image)
        return tuple(_copy(node, has, references, current) for node, has in self._images.items())

    def states(self) -> list[dict[str, str]]:
        """Return the state of every node of every cluster as of the last update."""
        return [
            {"cluster": node.cluster, "node": node.name, "state": self._state(node)}
            for node in self._all
        ]

    def _state(self, node: Node) -> NodeState:
        if node in self._images:
            return NodeState.NO_ANSWER if self._images[node] is None else NodeState.OK
        return NodeState.NOT_ATTACHED if node.is_running else NodeState.STOPPED


def _copy(
    node: Node, has: NodeImages | None, references: tuple[str, ...], current: str
) -> NodeCopy:
    digests = {digest for name in references for digest in (has or {}).get(name, ())}
    digest = current if current in digests else min(digests, default="")
    is_current = bool(digest) and digest == current
    return NodeCopy(node.cluster, node.name, digest, is_current, has is not None)
