"""The three stores side by side: for each image under our names what Docker, the registry and the nodes have.

Looked up anew for whoever asks, but once for all who ask at the same time; no pull ever waits for this. Refuses to
judge: the verdict is `decision.py`'s, made from the same facts as a pull's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from autoregistry.cluster.nodes import Node
from autoregistry.decision import LocalImage, Unreachable, Verdict
from autoregistry.errors import AutoregistryError, BackendUnreachable
from autoregistry.names import Image, RegistryNames, parse_image
from autoregistry.proxy.backend import Ask, Backend
from autoregistry.proxy.journal import Journal
from autoregistry.proxy.questions import Questions
from autoregistry.proxy.sync import Facts, Sync

AT_ONCE = 8
CATALOG = 1000
NODE_THREADS = 4
NODES_SECONDS = 2.0
"""How old an answer of the nodes may be: `crictl` in a container takes a tenth of a second."""
_STATES = {
    Verdict.UP_TO_DATE: "in-step",
    Verdict.ONLY_IN_REGISTRY: "only-in-registry",
    Verdict.PUSHED_BY_HAND: "by-hand",
    Verdict.DOCKER_UNREACHABLE: "docker-unreachable",
    Verdict.KNOWN_STALE: "stale",
    Verdict.MISSING: "only-in-docker",
    Verdict.DIFFERS: "behind",
}
_T = TypeVar("_T")


class Nodes(Protocol):
    """What is needed of the clusters (`cluster/nodes.py`); both block."""

    def attached(self, name: str) -> list[Node]: ...
    def held(self, node: Node) -> dict[str, frozenset[str]]: ...


@dataclass(frozen=True, slots=True)
class Held:
    """What one node has of an image."""

    cluster: str
    node: str
    digest: str
    """Empty where it has none."""
    is_current: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One image, and who has what of it."""

    image: str
    docker: str
    """Docker's Id; empty where it has none, or cannot be asked."""
    registry: str
    """The registry's digest."""
    nodes: tuple[Held, ...]
    state: str
    because: str
    size: int
    pushed_at: float | None
    pulled_at: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Stores:
    """Looks into all of them."""

    def __init__(
        self,
        questions: Questions,
        backend: Backend,
        sync: Sync,
        journal: Journal,
        nodes: Nodes,
        names: RegistryNames,
    ) -> None:
        self._questions = questions
        self._backend = backend
        self._sync = sync
        self._journal = journal
        self._nodes = nodes
        self._names = names
        self._threads = ThreadPoolExecutor(NODE_THREADS, "store")
        self._held: dict[Node, dict[str, frozenset[str]] | None] = {}
        self._held_at = -NODES_SECONDS
        self._looking: asyncio.Task[list[Row]] | None = None
        self._turn = asyncio.Lock()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def rows(self) -> list[Row]:
        """Every image Docker or the registry has under our names. Raises BackendUnreachable."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> list[Row]:
        sizes = await self.in_docker()
        images = sorted({*sizes, *await self._in_registry()})
        return await self._rows(images, sizes)

    async def row(self, image: Image) -> Row:
        """One image, whether anybody has it or not. Raises BackendUnreachable."""
        return (await self._rows([image], await self.in_docker()))[0]

    async def in_docker(self) -> dict[Image, int]:
        """What Docker has under our names, and the sizes; nothing where it cannot be asked."""
        found = await self._questions.ours()
        return {} if isinstance(found, Unreachable) else found

    async def _rows(self, images: list[Image], sizes: dict[Image, int]) -> list[Row]:
        held, known = await self._nodes_hold(), self._journal.known()
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(image: Image) -> Row:
            async with slots:
                facts = await self._sync.compare(image)
            digest = facts.registry.digest if facts.registry else ""
            on_nodes = tuple(self._held_by(node, has, image, digest) for node, has in held.items())
            state, because = _state(facts, on_nodes)
            docker = facts.local.identity if isinstance(facts.local, LocalImage) else ""
            dates = known.get(image, (None, None))
            size = sizes.get(image, 0)
            return Row(str(image), docker, digest, on_nodes, state, because, size, *dates)

        return list(await asyncio.gather(*(one(image) for image in images)))

    def _held_by(
        self, node: Node, has: dict[str, frozenset[str]] | None, image: Image, digest: str
    ) -> Held:
        digests = frozenset().union(
            *((has or {}).get(reference, frozenset()) for reference in self._names.in_docker(image))
        )
        shown = digest if digest in digests else min(digests, default="")
        return Held(node.cluster, node.name, shown, bool(shown) and shown == digest)

    async def _nodes_hold(self) -> dict[Node, dict[str, frozenset[str]] | None]:
        async with self._turn:
            if time.monotonic() - self._held_at >= NODES_SECONDS:
                attached = await self._of_nodes(lambda: self._nodes.attached(self._names.primary))
                attached = attached or []
                held = [self._of_nodes(partial(self._nodes.held, node)) for node in attached]
                self._held = dict(zip(attached, await asyncio.gather(*held), strict=True))
                self._held_at = time.monotonic()
        return self._held

    def nodes_changed(self) -> None:
        """A node has pulled something: what it said before is old."""
        self._held_at = -NODES_SECONDS

    async def _of_nodes(self, question: Callable[[], _T]) -> _T | None:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, question)
        except AutoregistryError:
            return None  # that node, or Docker, is away

    async def _in_registry(self) -> set[Image]:
        repositories = (await self._list(f"/v2/_catalog?n={CATALOG}")).get("repositories") or []
        slots = asyncio.Semaphore(AT_ONCE)

        async def tags(repository: str) -> set[Image]:
            async with slots:
                listed = await self._list(f"/v2/{quote(repository)}/tags/list")
            named = (parse_image(f"{repository}:{tag}") for tag in listed.get("tags") or [])
            return {image for image in named if image is not None}

        return set().union(*await asyncio.gather(*(tags(str(name)) for name in repositories)))

    async def _list(self, target: str) -> dict[str, list[str]]:
        ask = Ask("GET", target, [(b"Host", self._backend.host)])
        async with await self._backend.send(ask) as held:
            if held.status != 200:
                return defaultdict(list)
            try:
                listed: dict[str, list[str]] = json.loads(await held.keep())
            except ValueError as exc:
                raise BackendUnreachable(f"{self._backend.url} is not a registry") from exc
            return listed


def _state(facts: Facts, nodes: tuple[Held, ...]) -> tuple[str, str]:
    """One word, and the sentence behind it."""
    old = [held.node for held in nodes if held.digest and not held.is_current]
    if facts.verdict.must_push and facts.stale_because not in (None, facts.verdict.value):
        return "stale", f"{facts.verdict.value}, and it could not be pushed: {facts.stale_because}"
    if facts.verdict is Verdict.ONLY_IN_REGISTRY and facts.registry is None:
        return "nowhere", "neither Docker nor the registry has it"
    if old and not facts.verdict.must_push and facts.registry is not None:
        return "nodes-behind", f"an older copy is on {', '.join(old)}"
    return _STATES[facts.verdict], facts.verdict.value
