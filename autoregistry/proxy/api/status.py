"""The health of the proxy, and the status of its images, pulls, pushes and nodes."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from autoregistry import __version__
from autoregistry.decision import Unreachable
from autoregistry.errors import BackendUnreachable
from autoregistry.image_state import next_pull
from autoregistry.names import parse_image
from autoregistry.proxy.api.event_stream import NO_STORE, EventStream
from autoregistry.proxy.api.inventory import Inventory
from autoregistry.proxy.pull.core import Core
from autoregistry.proxy.watch.loopback_check import LoopbackCheck
from autoregistry.settings import is_check

HEALTH_SECONDS = 2.0
STATUS_PULLS = 200
STATUS_PUSHES = 20
MIN_FREE_BYTES = 2_000_000_000
"""With less free space on the disk, a push of a larger image is likely to fail."""


@dataclass(slots=True, eq=False)
class Status:
    """Serves `/_autoregistry/health` and `/_autoregistry/status`."""

    core: Core
    inventory: Inventory
    stream: EventStream
    loopback: LoopbackCheck | None
    _daemon: str = ""
    """Docker's own ID: commands compare it with that of their Docker."""

    async def health(self, _: web.Request) -> web.Response:
        """Return 200 while the proxy serves; the JSON has the health of each part."""
        return web.json_response(await self._health(), headers=NO_STORE)

    async def _health(self) -> dict[str, Any]:
        docker = await self.core.docker.call(lambda images: images.ping())
        if not self._daemon and docker is True:
            daemon = await self.core.docker.call(lambda images: images.daemon_identity())
            self._daemon = "" if isinstance(daemon, Unreachable) else daemon
        broken = self.loopback.broken if self.loopback else None
        return {
            "version": __version__,
            "daemon": self._daemon,
            "docker": "does not answer" if isinstance(docker, Unreachable) else "ok",
            "backend": await self._backend_health(),
            "loop": broken.message if broken else "ok",
            "disk": _disk_health(self._free_bytes()),
            "journal": self.core.journal.file.failure or "ok",
            "background": self.core.background.failing,
        }

    async def _backend_health(self) -> str:
        try:
            async with await self.core.backend.ask("/v2/", silence=HEALTH_SECONDS):
                return "ok"
        except BackendUnreachable as exc:
            return exc.message

    def _free_bytes(self) -> int | None:
        """Return the free space where the journal is: usually the disk of Docker's and the registry's volumes."""
        try:
            return shutil.disk_usage(self.core.settings.state.expanduser()).free
        except OSError:
            return None

    async def status(self, request: web.Request) -> web.Response:
        """Return everything that the page and `images` show, or with `?image=shop/api:dev` one row."""
        names = self.core.settings.names
        payload: dict[str, Any] = {"name": names.primary, "names": list(names.all)}
        payload |= {"at": time.time(), "last_event_id": str(self.stream.history.last)}
        only = parse_image(request.query.get("image", ""))
        try:
            rows = [await self.inventory.row(only)] if only else await self.inventory.rows()
            payload["images"] = [asdict(row) for row in rows]
            payload["is_compared"] = True
            if only:
                sentence, command = next_pull(rows[0].state, str(only), names.primary)
                payload["next"] = {"sentence": sentence, "command": command}
        except BackendUnreachable:
            payload |= {"images": [], "is_compared": False}
            await self.inventory.nodes.update()
        if only is None:
            payload |= self._recent()
            payload["health"] = await self._health()
            payload["nodes"] = self.inventory.nodes.states()
            payload["free_bytes"] = self._free_bytes()
        return web.json_response(payload, headers=NO_STORE)

    def _recent(self) -> dict[str, Any]:
        """Return the last pulls and pushes, newest first, and the running pushes."""
        newest = [entry.payload for entry in reversed(self.stream.history.entries)]
        pulls = [event for event in newest if event["type"] == "pull-answered"]
        pushes = [event for event in newest if event["type"] == "push-finished"]
        return {
            "pulls": [e for e in pulls if not is_check(e["manifest"])][:STATUS_PULLS],
            "pushes": [e for e in pushes if not is_check(e["image"])][:STATUS_PUSHES],
            "running": [e for e in self.stream.running.values() if not is_check(str(e["image"]))],
        }


def _disk_health(free: int | None) -> str:
    if free is None:
        return "unknown"
    return "ok" if free >= MIN_FREE_BYTES else f"only {free / 1e9:.1f} GB free"
