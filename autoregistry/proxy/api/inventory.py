"""Docker, the registry and the nodes side by side, for each image under the registry's names.

Read anew for each request, and once for all requests at the same time; no pull waits for this. The state comes from
the same facts and the same decision (`decision.py`) as a pull.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import quote

from autoregistry.decision import RegistryImage, Unreachable, Unreadable, Verdict
from autoregistry.errors import BackendUnreachable
from autoregistry.image_state import STATE_OF_VERDICT, ImageState
from autoregistry.names import Image, parse_image
from autoregistry.proxy.api.node_inventory import NodeCopy, NodeInventory
from autoregistry.proxy.pull.comparison import Comparison
from autoregistry.proxy.pull.core import Core
from autoregistry.proxy.pull.journal import CUT_OFF, NEWER_BUILD
from autoregistry.settings import is_check

MAX_CONCURRENT_READS = 8
CATALOG_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image in Docker, in the registry and on the nodes."""

    image: str
    docker: str
    """Docker's Id; empty if Docker has no such image, or does not answer."""
    registry: str
    """The registry's digest."""
    nodes: tuple[NodeCopy, ...]
    state: ImageState
    because: str
    size: int
    pushed_at: float | None
    pulled_at: float | None


@dataclass(slots=True, eq=False)
class Inventory:
    """Reads the three stores."""

    core: Core
    nodes: NodeInventory
    _reading: asyncio.Task[list[ImageRow]] | None = None

    async def rows(self) -> list[ImageRow]:
        """Return every image that Docker or the registry has under our names. Raises BackendUnreachable."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> list[ImageRow]:
        sizes = await self.docker_images()
        everything = {*sizes, *await self._registry_images()}
        images = sorted(image for image in everything if not is_check(str(image)))
        return await self._rows(images, sizes)

    async def row(self, image: Image) -> ImageRow:
        """Return one image, even if no store has it. Raises BackendUnreachable."""
        return (await self._rows([image], await self.docker_images()))[0]

    async def docker_images(self) -> dict[Image, int]:
        """Return the sizes of Docker's images under our names; empty if Docker does not answer."""
        images = await self.core.docker.list_images()
        return {} if isinstance(images, Unreachable) else images

    async def _rows(self, images: list[Image], sizes: dict[Image, int]) -> list[ImageRow]:
        await self.nodes.update()
        slots = asyncio.Semaphore(MAX_CONCURRENT_READS)

        async def one(image: Image) -> ImageRow:
            dates, size = self.core.journal.dates(image), sizes.get(image, 0)
            async with slots:
                facts = await self.core.pushes.compare(image, is_asked=False)
            docker, digest = facts.docker_identity, facts.registry_digest
            copies = self.nodes.copies(image, digest)
            state, because = state_of(facts, copies)
            return ImageRow(str(image), docker, digest, copies, state, because, size, *dates)

        return list(await asyncio.gather(*(one(image) for image in images)))

    async def _registry_images(self) -> set[Image]:
        catalog = await self._list(f"/v2/_catalog?n={CATALOG_PAGE}")
        slots = asyncio.Semaphore(MAX_CONCURRENT_READS)

        async def tags(repository: str) -> set[Image]:
            async with slots:
                listed = await self._list(f"/v2/{quote(repository)}/tags/list")
            images = (parse_image(f"{repository}:{tag}") for tag in listed.get("tags") or [])
            return {image for image in images if image is not None}

        names = catalog.get("repositories") or []
        return set().union(*await asyncio.gather(*(tags(str(name)) for name in names)))

    async def _list(self, target: str) -> dict[str, list[str]]:
        async with await self.core.backend.ask(target) as response:
            if response.status != 200:
                return {}
            try:
                listed: dict[str, list[str]] = json.loads(await response.buffer())
            except ValueError as exc:
                raise BackendUnreachable(f"{self.core.backend.url} is not a registry") from exc
            return listed


def state_of(facts: Comparison, copies: tuple[NodeCopy, ...]) -> tuple[ImageState, str]:
    """Return the state of an image and the sentence that explains it."""
    reason, failure = facts.verdict.value, facts.record.stale_because
    if facts.verdict.must_push and failure not in (None, CUT_OFF, NEWER_BUILD):
        return ImageState.STALE, f"{reason}, and it could not be pushed: {failure}"
    if facts.verdict in (Verdict.ONLY_IN_REGISTRY, Verdict.DOCKER_UNREACHABLE):
        if facts.registry is Unreadable.TAG:
            docker = (
                "Docker has no such image" if facts.local is None else "Docker cannot be reached"
            )
            return ImageState.UNREADABLE, f"{docker}, and the registry cannot read this tag"
        if facts.local is None and facts.registry is None:
            return ImageState.NOWHERE, "neither Docker nor the registry has it"
    state = STATE_OF_VERDICT[facts.verdict]
    old = [copy.node for copy in copies if copy.digest and not copy.is_current]
    if not old or facts.verdict.must_push or not isinstance(facts.registry, RegistryImage):
        return state, reason
    old_copies = f"an older copy is on {', '.join(old)}"
    if state is ImageState.IN_STEP:
        return ImageState.NODES_BEHIND, old_copies
    return state, f"{reason}; {old_copies}"
