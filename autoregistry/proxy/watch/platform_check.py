"""Reports an image that no node can run, because it is for another processor, before its pods fail.

The image is pushed all the same: the registry has other clients, and a machine may emulate the processor. Nothing
waits for this check.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.decision import Unreachable
from autoregistry.engine.images import Images, platform_mismatch
from autoregistry.events import Emit, Notice
from autoregistry.names import Image
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.watch.async_nodes import AsyncNodes, or_none


@dataclass(slots=True, eq=False)
class PlatformCheck:
    """Compares the platforms of images with that of the nodes."""

    docker: AsyncDocker
    nodes: AsyncNodes
    emit: Emit

    def check(self, image: Image) -> None:
        """Emit a notice if no node can run the image. Call it in the event loop's thread."""
        self.nodes.background.once(f"platform check of {image}", self._check(image))

    async def _check(self, image: Image) -> None:
        if remark := await self.remark(image):
            self.emit(Notice(f"{image}  {remark}"))

    async def remark(self, image: Image) -> str:
        """Return why no attached node can run the image. Empty if one can, there is none, or that is not known."""
        mismatch = await self.docker.call(lambda images: self._mismatch(images, image))
        if isinstance(mismatch, Unreachable) or not mismatch:
            return ""
        return mismatch if await or_none(self.nodes.attached()) else ""

    def _mismatch(self, images: Images, image: Image) -> str:
        """Compare the image's platforms with Docker's, which the nodes share as containers of this Docker."""
        listings = map(images.platforms, self.nodes.names.docker_references(image))
        platforms = next((listing for listing in listings if listing), [])
        return platform_mismatch(platforms, images.architecture())
