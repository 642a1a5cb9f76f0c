"""Updates a node that starts: it is made to pull what changed while it was away.

A cluster is stopped in the evening, images are built, and the cluster is started: without this its pods would run
the old images, because a node does not ask for an image that it holds. The same goes for a node that was paused.
Images that the node does not hold are left to its pods.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.decision import RegistryImage
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.async_nodes import AsyncNodes, or_none
from autoregistry.proxy.watch.docker_events import Connected, DockerEvent, NodeStarted
from autoregistry.proxy.watch.node_refresh import NodeRefresher

# A node that starts answers `crictl` within seconds; a loaded machine takes its time.
NODE_START_PAUSES_SECONDS = (2.0,) * 14


@dataclass(slots=True, eq=False)
class NodeStartWatcher:
    """Updates the attached nodes when Docker is connected, and each node that starts later."""

    nodes: AsyncNodes
    backend: Backend
    refresher: NodeRefresher

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case Connected():
                self.nodes.background.replace("update of all nodes", self._update_all())
            case NodeStarted(name, cluster) if cluster:
                self._start(name)

    def _start(self, name: str) -> None:
        # The node or the registry may still be starting.
        update = retry(lambda: or_none(self._update(name)), NODE_START_PAUSES_SECONDS)
        self.nodes.background.replace(f"update of {name}", update)

    async def _update_all(self) -> None:
        attached = retry(lambda: or_none(self.nodes.attached()), NODE_START_PAUSES_SECONDS)
        for node in await attached or []:
            self._start(node.name)

    async def _update(self, name: str) -> bool | None:
        """Refresh each of our images that the node holds and of which the registry has another one.

        Return None if the node is not attached, or has not started yet. Raises AutoregistryError.
        """
        node = next((n for n in await self.nodes.all() if n.name == name and n.is_running), None)
        if node is None or not await self.nodes.is_attached(node):
            return None
        for reference, digests in (await self.nodes.images(node)).items():
            if image := self.nodes.names.parse(reference):
                current = await self.backend.state(image.repository, image.tag)
                if isinstance(current, RegistryImage) and current.digest not in digests:
                    await self.refresher.roll_out(image, current.digest, node=name)
        return True
