"""What each node holds, and how the nodes are: looked up for whoever looks at the three stores.

An answer is kept for a moment, since `crictl` in a container takes a tenth of a second. Refuses to guess: a node
that does not answer keeps its column, and what it holds is unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.errors import AutoregistryError
from autoregistry.names import Image, RegistryNames

THREADS = 4
KEPT_SECONDS = 2.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NodeCopy:
    """What one node has of an image."""

    cluster: str
    node: str
    digest: str
    """Empty where it has none, or does not answer."""
    is_current: bool
    is_known: bool = True
    """False where the node does not answer."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """How one node is, in words: `ok`, `does not answer`, `not attached` or `stopped`."""

    cluster: str
    node: str
    state: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class NodeInventory:
    """Looks into the nodes of every cluster that is attached."""

    def __init__(self, nodes: Nodes, names: RegistryNames) -> None:
        self._nodes = nodes
        self._names = names
        self._threads = ThreadPoolExecutor(THREADS, "store")
        self._all: list[Node] = []
        self._held: dict[Node, dict[str, frozenset[str]] | None] = {}
        self._at = -KEPT_SECONDS
        self._turn = asyncio.Lock()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def forget(self) -> None:
        """A node has pulled something: what it said before is old."""
        self._at = -KEPT_SECONDS

    async def look(self) -> None:
        """Ask every node, unless they were just asked."""
        async with self._turn:
            if time.monotonic() - self._at < KEPT_SECONDS:
                return
            found = await self._ask(self._list)
            if found is None:  # Docker is away: the same nodes, but nobody knows what they hold
                self._held = dict.fromkeys(self._held)
            else:
                self._all, attached = found
                held = [self._ask(partial(self._nodes.held, node)) for node in attached]
                self._held = dict(zip(attached, await asyncio.gather(*held), strict=True))
            self._at = time.monotonic()

    def _list(self) -> tuple[list[Node], list[Node]]:
        return self._nodes.all(), self._nodes.attached(self._names.primary)

    async def _ask(self, question: Callable[[], _T]) -> _T | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except AutoregistryError:
            return None  # that node, or Docker, is away

    def of(self, image: Image, current: str) -> tuple[NodeCopy, ...]:
        """What each node has of an image, as of the last look; `current` is the registry's digest."""
        references = self._names.docker_references(image)
        return tuple(_held(node, has, references, current) for node, has in self._held.items())

    def states(self) -> list[NodeState]:
        """Every node of every cluster, as of the last look."""
        return [NodeState(node.cluster, node.name, self._state(node)) for node in self._all]

    def _state(self, node: Node) -> str:
        if node in self._held:
            return "does not answer" if self._held[node] is None else "ok"
        return "not attached" if node.is_running else "stopped"


def _held(
    node: Node, has: dict[str, frozenset[str]] | None, references: tuple[str, ...], current: str
) -> NodeCopy:
    digests: frozenset[str] = frozenset().union(
        *((has or {}).get(reference, frozenset()) for reference in references)
    )
    shown = current if current in digests else min(digests, default="")
    is_current = bool(shown) and shown == current
    return NodeCopy(node.cluster, node.name, shown, is_current, has is not None)
