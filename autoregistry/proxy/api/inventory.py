"""The three stores side by side: for each image under our names what Docker, the registry and the nodes have.

Looked up anew for whoever asks, but once for all who ask at the same time; no pull ever waits for this. Refuses to
judge: the verdict is `decision.py`'s, made from the same facts as a pull's.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from autoregistry.decision import LocalImage, Unreachable, Verdict
from autoregistry.errors import BackendUnreachable, TagUnreadable
from autoregistry.image_state import STATES
from autoregistry.names import Image, RegistryNames, parse_image
from autoregistry.proxy.api.node_inventory import NodeCopy, NodeInventory
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.backend.messages import BackendRequest
from autoregistry.proxy.pull.comparison import Facts
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import CUT_OFF, Journal
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.settings import CHECK

AT_ONCE = 8
CATALOG = 1000


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image, and who has what of it."""

    image: str
    docker: str
    """Docker's Id; empty where it has none, or cannot be asked."""
    registry: str
    """The registry's digest."""
    nodes: tuple[NodeCopy, ...]
    state: str
    because: str
    size: int
    pushed_at: float | None
    pulled_at: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Inventory:
    """Looks into all of them."""

    def __init__(
        self,
        questions: AsyncDocker,
        backend: Backend,
        sync: Pushes,
        journal: Journal,
        nodes: NodeInventory,
        names: RegistryNames,
    ) -> None:
        self._questions = questions
        self._backend = backend
        self._sync = sync
        self._journal = journal
        self._nodes = nodes
        self._names = names
        self._looking: asyncio.Task[list[ImageRow]] | None = None

    async def rows(self) -> list[ImageRow]:
        """Every image Docker or the registry has under our names. Raises BackendUnreachable."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> list[ImageRow]:
        sizes = await self.docker_references()
        everything = {*sizes, *await self._in_registry()}
        images = sorted(image for image in everything if str(image) != CHECK)
        return await self._rows(images, sizes)

    async def row(self, image: Image) -> ImageRow:
        """One image, whether anybody has it or not. Raises BackendUnreachable."""
        return (await self._rows([image], await self.docker_references()))[0]

    async def docker_references(self) -> dict[Image, int]:
        """What Docker has under our names, and the sizes; nothing where it cannot be asked."""
        found = await self._questions.ours()
        return {} if isinstance(found, Unreachable) else found

    async def _rows(self, images: list[Image], sizes: dict[Image, int]) -> list[ImageRow]:
        await self._nodes.look()
        known = self._journal.known()
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(image: Image) -> ImageRow:
            dates, size = known.get(image, (None, None)), sizes.get(image, 0)
            try:
                async with slots:
                    facts = await self._sync.compare(image)
            except TagUnreadable as exc:
                nodes = self._nodes.of(image, "")
                return ImageRow(str(image), "", "", nodes, "unreadable", exc.message, size, *dates)
            digest = facts.registry.digest if facts.registry else ""
            on_nodes = self._nodes.of(image, digest)
            state, because = state_of(facts, on_nodes)
            docker = facts.local.identity if isinstance(facts.local, LocalImage) else ""
            return ImageRow(str(image), docker, digest, on_nodes, state, because, size, *dates)

        return list(await asyncio.gather(*(one(image) for image in images)))

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
        ask = BackendRequest("GET", target, [(b"Host", self._backend.host)])
        async with await self._backend.send(ask) as held:
            if held.status != 200:
                return defaultdict(list)
            try:
                listed: dict[str, list[str]] = json.loads(await held.keep())
            except ValueError as exc:
                raise BackendUnreachable(f"{self._backend.url} is not a registry") from exc
            return listed


def state_of(facts: Facts, nodes: tuple[NodeCopy, ...]) -> tuple[str, str]:
    """One word, and the sentence behind it."""
    old = [held.node for held in nodes if held.digest and not held.is_current]
    if facts.verdict.must_push and facts.stale_because not in (None, CUT_OFF):
        return "stale", f"{facts.verdict.value}, and it could not be pushed: {facts.stale_because}"
    if facts.verdict is Verdict.ONLY_IN_REGISTRY and facts.registry is None:
        return "nowhere", "neither Docker nor the registry has it"
    state, because = STATES[facts.verdict], facts.verdict.value
    if not old or facts.verdict.must_push or facts.registry is None:
        return state, because
    behind = f"an older copy is on {', '.join(old)}"
    return ("nodes-behind", behind) if state == "in-step" else (state, f"{because}; {behind}")
