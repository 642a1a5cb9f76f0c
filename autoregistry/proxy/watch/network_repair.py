"""Keeps the networks of k3d clusters in order: addresses after a start of Docker, and the proxy's own memberships.

For a minute after Docker has started, a node that stayed down because another node took its address gets it back;
at other times no address is changed. The proxy leaves networks of deleted clusters, and joins those of attached
clusters that it is not on, for example after `down` and `up`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from autoregistry.cluster.addresses import Collision
from autoregistry.events import Emit, Notice
from autoregistry.proxy.background import Background
from autoregistry.proxy.watch.async_nodes import or_none
from autoregistry.proxy.watch.docker_events import Connected, DockerEvent, NodeRemoved, NodeStarted

_T = TypeVar("_T")

ADDRESS_CHECKS = 15
REJOIN_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)
ADDRESS_CHECK_SECONDS = 4.0


@dataclass(slots=True, eq=False)
class NetworkRepair:
    """Repairs networks when Docker is connected, and when a node starts or is removed."""

    give_back: Callable[[], list[Collision]]
    leave_gone: Callable[[], list[str]]
    rejoin: Callable[[], list[str]]
    emit: Emit
    background: Background
    _queue: asyncio.Queue[DockerEvent] = field(default_factory=asyncio.Queue)

    def handle(self, event: DockerEvent) -> None:
        """Handle one event of Docker's stream."""
        if isinstance(event, Connected | NodeStarted | NodeRemoved):
            self._queue.put_nowait(event)

    async def run(self) -> None:
        """Repair after each event, one after the other. Runs until it is cancelled."""
        while True:
            event = await self._queue.get()
            if isinstance(event, Connected):
                self.background.replace("check of addresses", self._check_addresses())
            if not isinstance(event, NodeStarted):
                for network in await self._in_thread(self.leave_gone):
                    self.emit(Notice(f"left network {network}: its cluster was deleted"))
            # Not when a node is removed: the other nodes of its cluster follow, and the network was just left.
            if not isinstance(event, NodeRemoved):
                await self._rejoin()
            if isinstance(event, NodeStarted):
                self.background.replace("check of networks", self._rejoin_later())

    async def _rejoin(self) -> list[str]:
        joined = await self._in_thread(self.rejoin)
        for network in joined:
            self.emit(Notice(f"joined network {network}: its nodes pull from this registry"))
        return joined

    async def _rejoin_later(self) -> None:
        """Join again after pauses: k3s writes a node's hosts.toml only some seconds after its container has started."""
        for pause in REJOIN_PAUSES_SECONDS:
            await asyncio.sleep(pause)
            if await self._rejoin():
                return

    async def _check_addresses(self) -> None:
        for _ in range(ADDRESS_CHECKS):
            for taken in await self._in_thread(self.give_back):
                self.emit(
                    Notice(
                        f"{taken.owner} runs again: it has its address {taken.address} back "
                        f"from {taken.holder}"
                    )
                )
            await asyncio.sleep(ADDRESS_CHECK_SECONDS)

    async def _in_thread(self, work: Callable[[], list[_T]]) -> list[_T]:
        """Return the results; none if Docker is busy, or another process was faster: a later event repairs it."""
        return await or_none(self.background.in_thread("network repair", work)) or []
