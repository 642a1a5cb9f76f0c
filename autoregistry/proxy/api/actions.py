"""The actions of the page and of commands: push images, and refresh the nodes.

They accept only POST requests with JSON: a browser sends a preflight request, which we never allow, before it sends
JSON to another site. `http/admission.py` refuses requests of other sites' pages before that.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from aiohttp import web

from autoregistry.decision import Unreachable, Unreadable, Verdict
from autoregistry.errors import BackendUnreachable
from autoregistry.event_json import to_json
from autoregistry.image_state import PushState
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.api.event_stream import NO_STORE
from autoregistry.proxy.api.history import History
from autoregistry.proxy.api.inventory import Inventory
from autoregistry.proxy.pull.comparison import Comparison
from autoregistry.proxy.pull.core import Core
from autoregistry.proxy.watch.node_refresh import NodeRefresher
from autoregistry.proxy.watch.platform_check import PlatformCheck

MAX_ACTION_BYTES = 64 * 1024
MAX_PATTERNS = 100
MAX_WAIT_SECONDS = 30.0
_NOT_PUSHED = {
    Verdict.UNREADABLE: PushState.FAILED,
    Verdict.PUSHED_MANUALLY: PushState.KEPT,
    Verdict.UNDECIDED: PushState.KEPT,
}


@dataclass(slots=True, eq=False)
class Actions:
    """Serves the POST requests."""

    core: Core
    inventory: Inventory
    refresher: NodeRefresher
    platforms: PlatformCheck
    history: History

    async def push(self, request: web.Request) -> web.Response:
        """Serve `{"images": [patterns], "wait": seconds}`: start or join the pushes, and return their states.

        With `"keep_manual": true`, an image that is named in full does not replace a manual push either.
        """
        body = await _json_body(request)
        patterns = body.get("images")
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            return _error(400, 'images must be a list of names: {"images": ["shop/api:dev"]}')
        if len(patterns) > MAX_PATTERNS:
            return _error(400, f"at most {MAX_PATTERNS} names at once; a pattern counts as one")
        wait = body["wait"] if isinstance(body.get("wait"), int | float) else 0
        seconds = float(max(0, min(wait, MAX_WAIT_SECONDS)))
        last = str(self.history.last)
        # Docker takes seconds to list hundreds of images, and an exact name does not need the list.
        has_pattern = any(map(is_pattern, patterns))
        existing = sorted(await self.inventory.docker_images()) if has_pattern else []
        matches = {p: matching_images(p, existing, self.core.settings.names) for p in patterns}
        named = {i for p, images in matches.items() if not is_pattern(p) for i in images}
        if body.get("keep_manual") is True:  # a button, not a name that the user has typed
            named.clear()
        images = sorted({image for matched in matches.values() for image in matched})
        results = await asyncio.gather(*(self._push(i, seconds, i in named) for i in images))
        states = [result for result in results if result is not None]
        known = {state["image"] for state in states}
        unmatched = [p for p, matched in matches.items() if not known & {str(i) for i in matched}]
        payload = {"images": states, "unmatched": unmatched, "last_event_id": last}
        return web.json_response(payload, headers=NO_STORE)

    async def _push(self, image: Image, seconds: float, is_named: bool) -> dict[str, Any] | None:
        """Return the state of the push after at most this time, or None if Docker has no such image.

        An image that the user has named in full replaces a manual push. One that only matches a pattern does not.
        """
        result = {"image": str(image), "state": PushState.FAILED, "cause": "", "remark": ""}
        try:
            facts = await self.core.pushes.compare(image, is_asked=is_named)
            if is_named and facts.verdict is Verdict.PUSHED_MANUALLY:
                self.core.journal.set_reported(image, time.time())
                facts = await self.core.pushes.compare(image)
        except BackendUnreachable as exc:
            return {**result, "cause": exc.message}
        if isinstance(facts.local, Unreachable):
            return {**result, "cause": "Docker does not answer"}
        if facts.local is None:
            return None
        result["remark"] = await self.platforms.remark(image)
        if not facts.verdict.must_push:
            state = _NOT_PUSHED.get(facts.verdict, PushState.IN_STEP)
            cause = "" if state is PushState.IN_STEP else facts.verdict.value
            return {**result, "state": state, "cause": cause}
        flight = self.core.pushes.flight(image, facts.local.identity, facts.verdict)
        if seconds:
            await asyncio.wait({flight}, timeout=seconds)
        if not flight.done():
            return {**result, "state": PushState.PUSHING}
        if (error := flight.result().error) is not None:
            return {**result, "cause": error.message}
        return {**result, "state": PushState.PUSHED, "sentence": str(flight.result())}

    async def refresh(self, request: web.Request) -> web.Response:
        """Serve `{"image": "shop/api:dev"}`: nodes that have an old copy, or wait for the image, pull it.

        With `"cluster": "dev"` only the nodes of this cluster; with `"dry_run": true` none, for the digest alone.
        """
        body = await _json_body(request)
        name, cluster = body.get("image"), body.get("cluster", "")
        image = self.core.settings.names.parse_user_input(name) if isinstance(name, str) else None
        if image is None or not isinstance(cluster, str):
            return _error(400, 'image must be a name: {"image": "shop/api:dev"}')
        try:
            digest = _expected_digest(await self.core.pushes.compare(image))
        except BackendUnreachable as exc:
            return _error(502, exc.message)
        if digest is None:
            return _error(404, f"the registry has no {image}")
        is_dry = body.get("dry_run") is True
        results = [] if is_dry else await self.refresher.refresh(image, digest, cluster=cluster)
        nodes = [{**to_json(report), "state": state} for report, state in results]
        payload = {"image": str(image), "digest": digest, "nodes": nodes}
        return web.json_response(payload, headers=NO_STORE)


def _expected_digest(comparison: Comparison) -> str | None:
    """Return the digest that nodes should have. None if neither Docker nor the registry has the image.

    It is Docker's Id if Docker's image is newer: the pull of a node makes Docker push it. It is empty if every pull
    fails: the nodes report the cause.
    """
    if comparison.verdict in (Verdict.MISSING, Verdict.DIFFERS):
        return comparison.docker_identity
    if comparison.verdict is Verdict.KNOWN_STALE or comparison.registry is Unreadable.TAG:
        return ""
    return comparison.registry_digest or None


def is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def matching_images(pattern: str, images: Iterable[Image], names: RegistryNames) -> list[Image]:
    """Return the image of a name (`shop/api:dev`, `localhost:5000/app`), or those that match a pattern (`shop/*`)."""
    if not is_pattern(pattern):
        wanted = names.parse_user_input(pattern)
        return [wanted] if wanted else []
    for name in names.all:
        pattern = pattern.removeprefix(f"{name}/")
    return [i for i in images if fnmatchcase(str(i), pattern) or fnmatchcase(i.repository, pattern)]


async def _json_body(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in the request."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="the Content-Type must be application/json\n")
    text = bytearray()
    async for chunk in request.content.iter_any():
        text += chunk
        if len(text) > MAX_ACTION_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_ACTION_BYTES, len(text))
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object\n")
    return body


def _error(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=NO_STORE)
