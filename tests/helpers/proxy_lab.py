"""The whole proxy on a real socket, between a fake registry and a fake Docker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from autoregistry.events import Event
from autoregistry.names import MANIFEST_TYPES
from autoregistry.proxy import app
from autoregistry.settings import Settings
from tests.fakes.docker import NONCE, FakeDocker
from tests.fakes.nodes import FakeNodes
from tests.fakes.registry import FakeRegistry
from tests.helpers.plain_http import PLAIN
from tests.helpers.waiting import until

NAME = "localhost:5000"
NODE_ACCEPT = ", ".join((*MANIFEST_TYPES, "*/*"))


@dataclass
class Lab:
    """A proxy between a fake registry and a fake Docker, and a client in front."""

    registry: FakeRegistry
    docker: FakeDocker
    settings: Settings
    nodes: FakeNodes = field(default_factory=FakeNodes)
    events: list[Event] = field(default_factory=list)
    client: httpx.AsyncClient = field(init=False)
    proxy: app.Proxy = field(init=False)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        docker = app.Docker(self.docker, self.docker.follow, self.nodes, NONCE)
        async with (
            self.docker.followed(),
            app.running(self.settings, docker, self.events.append) as self.proxy,
        ):
            self.docker.proxy = f"http://127.0.0.1:{self.proxy.server.addresses[0][1]}"
            async with httpx.AsyncClient(
                base_url=self.docker.proxy, trust_env=False, verify=PLAIN
            ) as self.client:
                await until(self._has_started)
                yield

    def _has_started(self) -> bool:
        """Return True once the nodes of the start are known: those that a test adds are none of them."""
        names = {task.get_name() for task in asyncio.all_tasks()}
        has_listed = self.proxy._events.is_connected and "update of all nodes" not in names
        return has_listed or self.docker.error is not None

    async def pull(
        self, name: str = "app:dev", method: str = "HEAD", agent: str = "containerd/2.3.7"
    ) -> httpx.Response:
        repository, _, reference = name.rpartition("@") if "@" in name else name.rpartition(":")
        return await self.client.request(
            method,
            f"/v2/{repository}/manifests/{reference}?ns=localhost%3A5000",
            headers={"Accept": NODE_ACCEPT, "User-Agent": agent},
            timeout=20,
        )
