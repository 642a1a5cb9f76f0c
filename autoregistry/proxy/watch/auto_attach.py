"""Attaches every k3d cluster that starts (`up --attach-all`), however it was created, and nodes that are added later.

A cluster that is starting is tried again until its API server answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from autoregistry.cluster.nodes import ROLES
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice
from autoregistry.proxy.background import Background
from autoregistry.proxy.retry import retry
from autoregistry.proxy.watch.async_nodes import or_none
from autoregistry.proxy.watch.docker_events import Connected, DockerEvent, NodeStarted

ATTACH_PAUSES_SECONDS = (2.0,) * 44
LIST_PAUSES_SECONDS = (2.0,) * 10


@dataclass(slots=True, eq=False)
class AutoAttach:
    """Attaches the clusters that run when Docker is connected, and each one of which a node starts later."""

    running_clusters: Callable[[], list[str]]
    attach: Callable[[str], object]
    emit: Emit
    background: Background
    _attaching: dict[str, bool] = field(default_factory=dict)
    """The clusters that are being attached. True if a node has started meanwhile: it needs one more round."""

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        match event:
            case Connected():
                self.background.replace("attaching running clusters", self._attach_running())
            case NodeStarted(_, cluster, role) if cluster and role in ROLES:
                self._start(cluster)

    async def _attach_running(self) -> None:
        call = partial(self.background.in_thread, "list of clusters", self.running_clusters)
        for cluster in await retry(lambda: or_none(call()), LIST_PAUSES_SECONDS) or []:
            self._start(cluster)

    def _start(self, cluster: str) -> None:
        is_running = cluster in self._attaching
        self._attaching[cluster] = is_running
        if not is_running:
            self.background.once(f"attaching {cluster}", self._until_attached(cluster))

    async def _until_attached(self, cluster: str) -> None:
        cause = ""

        async def is_attached() -> bool | None:
            nonlocal cause
            self._attaching[cluster] = False
            try:
                await self.background.in_thread(f"attaching {cluster}", self.attach, cluster)
            except AutoregistryError as exc:
                cause = exc.message
                return None
            cause = ""
            return not self._attaching[cluster] or None

        await retry(is_attached, ATTACH_PAUSES_SECONDS)
        del self._attaching[cluster]
        result = f"could not be attached: {cause}" if cause else "is attached"
        self.emit(Notice(f"cluster {cluster} {result}"))
