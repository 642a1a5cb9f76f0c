"""Reports an image that no node can run, because it is for another processor, before its pods fail.

The image is pushed all the same: the registry has other clients, and a machine may emulate the processor. Nothing
waits for this check.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from autoregistry.cluster.nodes import Nodes
from autoregistry.decision import Unreachable
from autoregistry.engine.images import Images
from autoregistry.engine.platforms import platform_mismatch
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.pull.docker import AsyncDocker


class PlatformCheck:
    """Compares the platforms of images with that of the nodes."""

    def __init__(self, docker: AsyncDocker, nodes: Nodes, names: RegistryNames, emit: Emit) -> None:
        self._docker = docker
        self._nodes = nodes
        self._names = names
        self._emit = emit
        self._threads = ThreadPoolExecutor(1, "platforms")
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check(self, image: Image) -> None:
        """Emit a notice if no node can run the image. Call it in the event loop's thread."""
        task = asyncio.create_task(self._check(image))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check(self, image: Image) -> None:
        if remark := await self.remark(image):
            self._emit(Notice(f"{image}  {remark}"))

    async def remark(self, image: Image) -> str:
        """Return why no attached node can run the image. Empty if one can, there is none, or that is not known."""
        mismatch = await self._docker.call(lambda images: self._mismatch(images, image))
        if isinstance(mismatch, Unreachable) or not mismatch:
            return ""
        loop, registry = asyncio.get_running_loop(), self._names.primary
        try:
            nodes = await loop.run_in_executor(self._threads, self._nodes.attached, registry)
        except AutoregistryError:
            return ""
        return mismatch if nodes else ""

    def _mismatch(self, images: Images, image: Image) -> str:
        """Compare the image's platforms with Docker's, which the nodes share as containers of this Docker."""
        listings = map(images.platforms, self._names.docker_references(image))
        platforms = next((listing for listing in listings if listing), [])
        return platform_mismatch(platforms, images.architecture())
