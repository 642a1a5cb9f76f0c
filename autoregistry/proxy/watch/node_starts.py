"""Updates a node that starts: it is made to pull what changed while it was away.

A cluster is stopped in the evening, images are built, and the cluster is started: without this its pods would run
the old images, because a node does not ask for an image that it holds. The same goes for a node that was paused.
Images that the node does not hold are left to its pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.decision import RegistryImage
from autoregistry.errors import AutoregistryError
from autoregistry.names import RegistryNames
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.docker_events import Connected, DockerEvent, NodeStarted
from autoregistry.proxy.watch.node_refresh import NodeRefresher

# A node that starts answers `crictl` within seconds; a loaded machine takes its time.
NODE_START_PAUSES_SECONDS = (2.0,) * 14


class NodeStartWatcher:
    """Updates the attached nodes when Docker is connected, and each node that starts later."""

    def __init__(
        self, nodes: Nodes, backend: Backend, refresher: NodeRefresher, names: RegistryNames
    ) -> None:
        self._nodes = nodes
        self._backend = backend
        self._refresher = refresher
        self._names = names
        self._threads = ThreadPoolExecutor(2, "node-start")
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case Connected():
                self._start("", self._update_all())
            case NodeStarted(name, cluster) if cluster:
                self._start(name, self._update_when_ready(name))

    def _start(self, name: str, work: Coroutine[None, None, None]) -> None:
        if (earlier := self._tasks.get(name)) is not None:
            earlier.cancel()
        self._tasks[name] = task = asyncio.create_task(work)
        task.add_done_callback(lambda ended: self._ended(name, ended))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _update_all(self) -> None:
        for node in await retry(self._attached, NODE_START_PAUSES_SECONDS) or []:
            self._start(node.name, self._update_when_ready(node.name))

    async def _update_when_ready(self, name: str) -> None:
        async def is_updated() -> bool | None:
            try:
                return await self._update(name) or None
            except AutoregistryError:  # the node or the registry is still starting
                return None

        await retry(is_updated, NODE_START_PAUSES_SECONDS)

    async def _update(self, name: str) -> bool:
        """Refresh each of our images that the node holds and of which the registry has another one.

        Return False if the node is not attached, or has not started yet. Raises AutoregistryError.
        """
        node = next((node for node in await self._attached() or [] if node.name == name), None)
        if node is None:
            return False
        loop = asyncio.get_running_loop()
        held = await loop.run_in_executor(self._threads, self._nodes.images_on, node)
        for reference, digests in held.items():
            if image := self._names.parse(reference):
                current = await self._backend.state(image.repository, image.tag)
                if isinstance(current, RegistryImage) and current.digest not in digests:
                    await self._refresher.roll_out(image, current.digest, node=name)
        return True

    async def _attached(self) -> list[Node] | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, self._nodes.attached, self._names.primary
            )
        except AutoregistryError:
            return None
