"""What people may have done from the page and by commands: a push, and a refresh of the nodes.

Only by POST, only as JSON, and never for another site's page: a browser sends `Origin` with every POST, and asks
before it sends JSON to a foreign site (which we never allow).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web

from autoregistry.decision import LocalImage, Unreachable
from autoregistry.errors import BackendUnreachable
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.api.history import History
from autoregistry.proxy.api.inventory import Inventory
from autoregistry.proxy.api.status import NO_STORE
from autoregistry.proxy.http.admission import is_from_another_site
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.proxy.watch.node_refresh import NodeRefresher
from autoregistry.proxy.watch.platform_check import PlatformCheck

MAX_BODY = 64 * 1024
MAX_PATTERNS = 100
LONGEST_WAIT = 30.0


class Actions:
    """Answers the POSTs."""

    def __init__(
        self,
        stores: Inventory,
        sync: Pushes,
        journal: Journal,
        refresh: NodeRefresher,
        platforms: PlatformCheck,
        history: History,
        names: RegistryNames,
    ) -> None:
        self._stores = stores
        self._sync = sync
        self._journal = journal
        self._refresh = refresh
        self._platforms = platforms
        self._history = history
        self._names = names

    async def push(self, request: web.Request) -> web.Response:
        """`{"images": [patterns], "wait": seconds}`: start or join the flights; how each stands after the wait."""
        asked = await _body(request)
        patterns = asked.get("images")
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            return _refused(400, 'say which: {"images": ["shop/api:dev"]}')
        if len(patterns) > MAX_PATTERNS:
            return _refused(400, f"at most {MAX_PATTERNS} names at once; a pattern counts as one")
        wait = asked.get("wait")
        seconds = float(max(0, min(wait, LONGEST_WAIT))) if isinstance(wait, int | float) else 0.0
        last = str(self._history.last)
        # Listing all of Docker's images takes seconds where there are hundreds: an exact name needs none.
        there = (
            sorted(await self._stores.docker_references()) if any(map(is_pattern, patterns)) else []
        )
        chosen = {p: chosen_by(p, there, self._names) for p in patterns}
        images = sorted({image for found in chosen.values() for image in found})
        told = await asyncio.gather(*(self._push(image, seconds) for image in images))
        states = [state for state in told if state["state"] != "absent"]
        known = {state["image"] for state in states}
        unmatched = [p for p, found in chosen.items() if not known & {str(i) for i in found}]
        said = {"images": states, "unmatched": unmatched, "last_event_id": last}
        return web.json_response(said, headers=NO_STORE)

    async def _push(self, image: Image, seconds: float) -> dict[str, Any]:
        if image not in self._sync.in_flight:
            self._journal.forget_hand(image)  # who asks for a push wants Docker's image
        said = {"image": str(image), "cause": "", "remark": ""}
        try:
            facts = await self._sync.compare(image)
        except BackendUnreachable as exc:
            return {**said, "state": "failed", "cause": exc.message}
        if isinstance(facts.local, Unreachable):
            return {**said, "state": "failed", "cause": "Docker does not answer"}
        if not isinstance(facts.local, LocalImage):
            return {**said, "state": "absent"}
        said["remark"] = await self._platforms.remark(image)
        if not facts.verdict.must_push:
            return {**said, "state": "in-step"}
        flight = self._sync.flight(image, facts.local.identity, facts.verdict)
        if seconds:
            await asyncio.wait({flight}, timeout=seconds)
        if not flight.done():
            return {**said, "state": "pushing"}
        outcome = flight.result()
        if outcome.error is not None:
            return {**said, "state": "failed", "cause": outcome.error.message}
        return {**said, "state": "pushed", "sentence": str(outcome)}

    async def refresh(self, request: web.Request) -> web.Response:
        """`{"image": "shop/api:dev"}`: have the nodes that hold an old copy, or wait for it, pull it."""
        asked = await _body(request)
        name = asked.get("image")
        image = self._names.parse_user_input(name) if isinstance(name, str) else None
        if image is None:
            return _refused(400, 'say which: {"image": "shop/api:dev"}')
        try:
            row = await self._stores.row(image)
        except BackendUnreachable as exc:
            return _refused(502, exc.message)
        if not row.registry:
            return _refused(404, f"the registry has no {image}")
        done = await self._refresh.refresh(image, row.registry)
        nodes = [
            {"cluster": e.cluster, "node": e.node, "seconds": e.seconds, "cause": e.cause}
            for e in done
        ]
        said = {"image": str(image), "digest": row.registry, "nodes": nodes}
        return web.json_response(said, headers=NO_STORE)


def is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def chosen_by(pattern: str, images: Iterable[Image], names: RegistryNames) -> list[Image]:
    """What a name or pattern means: `shop/api:dev`, `localhost:5000/app` (then `:latest`), or `shop/*` of these."""
    if not is_pattern(pattern):
        wanted = names.parse_user_input(pattern)
        return [wanted] if wanted else []
    for name in names.all:
        pattern = pattern.removeprefix(f"{name}/")
    return [i for i in images if fnmatchcase(str(i), pattern) or fnmatchcase(i.repository, pattern)]


def is_same_origin(request: web.Request) -> bool:
    """Whether this is no other site's page asking: commands send no Origin, browsers always do."""
    origin = request.headers.get("Origin")
    host = request.headers.get("Host", "")
    is_ours = origin in (None, f"http://{host}", f"https://{host}")
    return is_ours and not is_from_another_site(request)


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object sent; refuses what another site's page could have sent."""
    if not is_same_origin(request):
        raise web.HTTPForbidden(text="not for other sites' pages\n")
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON\n")
    text = bytearray()
    async for chunk in request.content.iter_any():
        text += chunk
        if len(text) > MAX_BODY:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY, len(text))
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise web.HTTPBadRequest(text="send a JSON object\n")
    return asked


def _refused(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=NO_STORE)
