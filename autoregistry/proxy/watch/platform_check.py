"""Whether a node can run what is pushed: an image for another processor is named at once, not when its pod has failed.

It is pushed all the same: the registry serves others too, and a machine may emulate. Nothing waits for this.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from autoregistry.cluster.nodes import Nodes
from autoregistry.decision import Unreachable
from autoregistry.engine.platforms import platform_mismatch
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.pull.docker import AsyncDocker, Images


class PlatformCheck:
    """Compares what images are made for with what the nodes are."""

    def __init__(
        self, questions: AsyncDocker, nodes: Nodes, names: RegistryNames, emit: Emit
    ) -> None:
        self._questions = questions
        self._nodes = nodes
        self._names = names
        self._emit = emit
        self._threads = ThreadPoolExecutor(1, "platforms")
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def look_at(self, image: Image) -> None:
        """Say it if no node can run this image; from the loop's own thread."""
        task = asyncio.create_task(self._look_at(image))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_at(self, image: Image) -> None:
        if remark := await self.remark(image):
            self._emit(Notice(f"{image}  {remark}"))

    async def remark(self, image: Image) -> str:
        """Why no attached node can run it; empty where one can, where there is none, and where nobody knows."""
        said = await self._questions.call(lambda images: self._unfit(images, image))
        if isinstance(said, Unreachable) or not said:
            return ""
        loop = asyncio.get_running_loop()
        try:
            # The nodes are containers of this Docker: they are what it is.
            found = await loop.run_in_executor(
                self._threads, self._nodes.attached, self._names.primary
            )
        except AutoregistryError:
            return ""
        return said if found else ""

    def _unfit(self, images: Images, image: Image) -> str:
        made_for = (
            images.platforms(reference) for reference in self._names.docker_references(image)
        )
        return platform_mismatch(
            next((found for found in made_for if found), []), images.architecture()
        )
