"""What the proxy says about itself: whether all is well, and who has what."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from autoregistry.decision import Unreachable
from autoregistry.errors import BackendUnreachable
from autoregistry.image_state import next_pull
from autoregistry.names import RegistryNames, parse_image
from autoregistry.proxy.api.event_stream import EventStream
from autoregistry.proxy.api.history import History
from autoregistry.proxy.api.inventory import Inventory
from autoregistry.proxy.api.node_inventory import NodeInventory
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.backend.messages import BackendRequest
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.watch.loopback_check import LoopbackCheck
from autoregistry.settings import CHECK

BACKEND_SECONDS = 2.0
SHOWN_PULLS = 200
SHOWN_PUSHES = 20
LITTLE_DISK = 2_000_000_000
"""Bytes free below which a push of a larger image is about to fail."""
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Status:
    """Answers `/_autoregistry/health` and `/_autoregistry/status`."""

    def __init__(
        self,
        questions: AsyncDocker,
        backend: Backend,
        stores: Inventory,
        nodes: NodeInventory,
        stream: EventStream,
        history: History,
        names: RegistryNames,
        state: Path,
        version: str,
    ) -> None:
        self._questions = questions
        self._backend = backend
        self._stores = stores
        self._nodes = nodes
        self._stream = stream
        self._history = history
        self._names = names
        self._state = state
        self._version = version
        self._daemon = ""
        """Docker's own ID, by which commands know whether this is the proxy of the Docker that they talk to."""
        self.probe: LoopbackCheck | None = None

    async def health(self, _: web.Request) -> web.Response:
        """200 while we serve; the JSON says how Docker and the backend are."""
        return web.json_response(await self._health(), headers=NO_STORE)

    async def _health(self) -> dict[str, str]:
        docker = await self._questions.ask(lambda images: images.ping())
        if not self._daemon and docker is True:
            daemon = await self._questions.ask(lambda images: images.daemon_identity())
            self._daemon = "" if isinstance(daemon, Unreachable) else daemon
        backend = "ok"
        broken = self.probe.broken if self.probe else None
        try:
            ask = BackendRequest("GET", "/v2/", [(b"Host", self._backend.host)])
            async with await self._backend.send(ask, silence=BACKEND_SECONDS):
                pass
        except BackendUnreachable as exc:
            backend = exc.message
        return {
            "version": self._version,
            "daemon": self._daemon,
            "docker": "does not answer" if isinstance(docker, Unreachable) else "ok",
            "backend": backend,
            "loop": broken.message if broken else "ok",
            "disk": _disk(self._free_bytes()),
        }

    def _free_bytes(self) -> int | None:
        """On the journal's disk: where the stack's volumes are, Docker's and the registry's are as well."""
        try:
            return shutil.disk_usage(self._state).free
        except OSError:
            return None

    async def status(self, request: web.Request) -> web.Response:
        """Everything the page and `images` show; with `?image=shop/api:dev` that row only."""
        last = str(self._history.last)
        said: dict[str, Any] = {"at": time.time(), "last_event_id": last}
        only = parse_image(request.query.get("image", ""))
        try:
            rows = [await self._stores.row(only)] if only else await self._stores.rows()
            said["images"] = [row.as_json() for row in rows]
            said["is_compared"] = True
            if only:
                told = next_pull(rows[0].state, rows[0].image, self._names.primary)
                said["next"] = dict(zip(("sentence", "command"), told, strict=True))
        except BackendUnreachable:
            said |= {"images": [], "is_compared": False}
            await self._nodes.look()
        if only is None:
            said |= self._of_late()
            said["health"] = await self._health()
            said["nodes"] = [node.as_json() for node in self._nodes.states()]
            said["free_bytes"] = self._free_bytes()
        said["name"] = self._names.primary
        said["names"] = list(self._names.all)
        return web.json_response(said, headers=NO_STORE)

    def _of_late(self) -> dict[str, Any]:
        """Newest first."""
        newest = [entry.said for entry in reversed(self._history.entries)]
        pulls = [said for said in newest if said["type"] == "pull-answered"]
        pulls = [said for said in pulls if said["manifest"] != CHECK]
        pushes = [said for said in newest if said["type"] == "push-finished"]
        pushes = [said for said in pushes if said["image"] != CHECK]
        return {
            "pulls": pulls[:SHOWN_PULLS],
            "pushes": pushes[:SHOWN_PUSHES],
            "running": list(self._stream.running.values()),
        }


def _disk(free: int | None) -> str:
    if free is None:
        return "unknown"
    return "ok" if free >= LITTLE_DISK else f"only {free / 1e9:.1f} GB free"
