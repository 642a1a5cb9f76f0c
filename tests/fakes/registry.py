"""A registry in memory on a real socket, with as much of distribution 2.8 as a pull and a push need.

It records its requests, and can fail or be slow on demand.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass, field

from aiohttp import web

_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")
_BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]+)")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class FakeRegistry:
    """A registry. `async with` starts and stops it."""

    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """(repository, tag or digest) -> (media type, content)"""
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(method, path) of every request."""
    seen_headers: list[list[tuple[str, str]]] = field(default_factory=list)
    refuse_puts: str = ""
    unreadable: int = 0
    """The number of next reads that are answered 500, as while a link is written."""
    unknown_parts: int = 0
    """The number of next manifests that are refused, as while the link of a layer is written."""
    broken: set[tuple[str, str]] = field(default_factory=set)
    """(repository, tag) whose reads are answered 500."""
    most_at_once: int = 0
    """The highest number of uploads of manifests at the same time."""
    _uploads: int = 0
    delay: float = 0.0
    """Seconds that every manifest upload takes."""

    async def __aenter__(self) -> FakeRegistry:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{any:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await self.start()
        return self

    async def start(self, port: int = 0) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()
        self.port = int(self._runner.addresses[-1][1])

    async def stop(self) -> None:
        await self._site.stop()

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, repository: str, tag: str, media_type: str, content: bytes) -> str:
        """Set a tag without a request, and return its digest."""
        digest = digest_of(content)
        self.manifests[repository, tag] = self.manifests[repository, digest] = (media_type, content)
        return digest

    def uploads_of(self, tag: str) -> int:
        """Return how often this tag was pushed."""
        return sum(
            method == "PUT" and path.endswith(f"/manifests/{tag}") for method, path in self.asked
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.asked.append((request.method, path))
        self.seen_headers.append(list(request.headers.items()))
        if match := _MANIFEST.fullmatch(path):
            return await self._manifest(request, match["name"], match["reference"])
        if (match := _BLOB.fullmatch(path)) and match["digest"] in self.blobs:
            if self.unreadable:
                self.unreadable -= 1
                return _error(500, "UNKNOWN")
            return web.Response(
                body=self.blobs[match["digest"]], content_type="application/octet-stream"
            )
        if path == "/v2/":
            return web.json_response({})
        return _error(404, "NAME_UNKNOWN")

    async def _manifest(self, request: web.Request, name: str, reference: str) -> web.Response:
        if request.method == "PUT":
            self._uploads += 1
            self.most_at_once = max(self.most_at_once, self._uploads)
            await asyncio.sleep(self.delay)
            self._uploads -= 1
            if self.refuse_puts:
                return _error(500, self.refuse_puts)
            if self.unknown_parts:
                self.unknown_parts -= 1
                return _error(400, "MANIFEST_BLOB_UNKNOWN")
            digest = self.put(name, reference, request.content_type, await request.read())
            return web.Response(status=201, headers={"Docker-Content-Digest": digest})
        if (name, reference) in self.broken:
            return _error(500, "UNKNOWN")
        if self.unreadable:
            self.unreadable -= 1
            return _error(500, "UNKNOWN")
        if (name, reference) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        media_type, content = self.manifests[name, reference]
        if media_type not in ",".join(request.headers.getall("Accept", [])):
            return _error(404, "MANIFEST_UNKNOWN")
        return web.Response(
            body=content,
            headers={"Content-Type": media_type, "Docker-Content-Digest": digest_of(content)},
        )


def _error(status: int, code: str) -> web.Response:
    return web.Response(
        status=status,
        text=json.dumps({"errors": [{"code": code, "message": code.lower()}]}),
        content_type="application/json",
    )
