"""The state of every node and the images it holds.

Results are kept for two seconds, because `crictl` in a container takes a tenth of a second. A node that does not answer
keeps its column; its images are unknown.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from autoregistry.cluster.nodes import Node
from autoregistry.errors import AutoregistryError
from autoregistry.image_state import NodeState
from autoregistry.names import Image
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


@dataclass(slots=True, eq=False)
class NodeInventory:
    """Reads the images of the nodes of every attached cluster."""

    nodes: AsyncNodes
    _all: list[Node] = field(default_factory=list)
    _images: dict[Node, NodeImages | None] = field(default_factory=dict)
    """The images of attached nodes; None for a node that does not answer."""
    _updated_at: float = -MAX_AGE_SECONDS
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def invalidate(self) -> None:
        """Read the nodes again at the next update, because a node has pulled an image."""
        self._updated_at = -MAX_AGE_SECONDS

    async def update(self) -> None:
        """Read every node, unless that was done a moment ago."""
        async with self._lock:
            if time.monotonic() - self._updated_at < MAX_AGE_SECONDS:
                return
            nodes = await or_none(self.nodes.all())
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
                if not await self.nodes.is_attached(node):
                    return []
                return [(node, await self.nodes.images(node))]
        except (AutoregistryError, TimeoutError):
            return [(node, None)]

    def copies(self, image: Image, current: str) -> tuple[NodeCopy, ...]:
        """Return each node's copy of an image as of the last update; `current` is the registry's digest."""
        references = self.nodes.names.docker_references(image)
        copies = []
        for node, held in self._images.items():
            digests = {digest for name in references for digest in (held or {}).get(name, ())}
            digest = current if current in digests else min(digests, default="")
            is_current = bool(digest) and digest == current
            copies.append(
                NodeCopy(node.cluster, node.name, digest, is_current, is_known=held is not None)
            )
        return tuple(copies)

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
