"""A client of the backend: the stock registry behind the proxy, asked for facts, with requests forwarded unchanged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import aiohttp
import httpx

from autoregistry.decision import RegistryImage, RegistryState, Unreadable
from autoregistry.errors import BackendUnreachable
from autoregistry.names import MANIFEST_TYPES
from autoregistry.proxy.backend.response import BackendResponse
from autoregistry.proxy.backend.transport import NO_BODY, RawTransport, raw_request

BACKEND_CONNECT_SECONDS = 5.0
# The registry is silent for long only while it completes an upload of many gigabytes.
BACKEND_SILENCE_SECONDS = 600.0
MANIFEST_SILENCE_SECONDS = 10.0
# A write that a read has raced with takes some milliseconds, or longer on a disk that is busy.
WRITE_RETRY_SECONDS = 1.6
WRITE_RETRY_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# Any client may push an index of anything, of itself too, and any pull makes us read it; one of all platforms has ten.
MAX_MANIFESTS = 101
CONCURRENT_READS = 8
MAX_CACHED_CONFIGS = 10_000
# The registry's error for a manifest whose layer, config or child it does not find (distribution-spec).
_UNKNOWN_PART = b"MANIFEST_BLOB_UNKNOWN"


class Backend:
    """One stock registry, at one URL."""

    def __init__(self, url: str, timed: Callable[[float, str], None], idle_seconds: float) -> None:
        """`idle_seconds` limits the time in which the registry takes nothing of an upload."""
        self.url = url.rstrip("/")
        self._timed, self._idle = timed, idle_seconds
        self._host = self.url.partition("://")[2].partition("/")[0].encode()
        self._client = httpx.AsyncClient(transport=RawTransport(self.url), trust_env=False)
        self._configs: dict[str, frozenset[str]] = {}
        self._read_slots = asyncio.Semaphore(CONCURRENT_READS)

    async def close(self) -> None:
        await self._client.aclose()

    async def send(
        self, request: httpx.Request, *, silence: float = BACKEND_SILENCE_SECONDS
    ) -> BackendResponse:
        """Send a request, again for a short time if it raced with a write. Raises BackendUnreachable."""
        timeout = {"connect": BACKEND_CONNECT_SECONDS, "read": silence, "write": self._idle}
        request.extensions["timeout"] = timeout
        response = await self._send(request)
        deadline = time.monotonic() + WRITE_RETRY_SECONDS
        for pause in WRITE_RETRY_PAUSES:
            is_late = time.monotonic() + pause > deadline
            if is_late or not await _raced_with_write(request, response):
                break
            await response.close()
            await asyncio.sleep(pause)
            response = await self._send(request)
        return response

    async def _send(self, request: httpx.Request) -> BackendResponse:
        began, result = time.monotonic(), "failed"
        try:
            response = await self._client.send(request, stream=True)
            result = "ok"
            return BackendResponse(response)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            raise BackendUnreachable(
                f"the registry at {self.url} does not answer: {exc or type(exc).__name__}",
                f"curl {self.url}/v2/",
            ) from exc
        finally:
            self._timed(time.monotonic() - began, result)

    async def read(self, request: httpx.Request) -> BackendResponse:
        """Send a request for a manifest."""
        return await self.send(request, silence=MANIFEST_SILENCE_SECONDS)

    async def ask(
        self, target: str, *, method: str = "GET", silence: float = BACKEND_SILENCE_SECONDS
    ) -> BackendResponse:
        """Send a request of the proxy's own. Raises BackendUnreachable."""
        headers = [(b"Host", self._host), (b"Accept", ", ".join(MANIFEST_TYPES).encode())]
        return await self.send(raw_request(method, target, headers), silence=silence)

    async def state(self, repository: str, reference: str) -> RegistryState:
        """Return the state of a tag or digest in the registry. Raises BackendUnreachable."""
        async with await self._manifest("HEAD", repository, reference) as response:
            if response.status not in (200, 404):
                return Unreadable.TAG
            if response.status == 200 and response.digest:
                return RegistryImage(response.digest)
            return None

    async def configs(self, repository: str, digest: str) -> frozenset[str]:
        """Return the digests of the configs of a manifest, or of the children of an index.

        The result is cached if everything could be read: it never changes, but a missing part may still arrive.
        """
        if digest in self._configs:
            return self._configs[digest]
        configs: set[str] = set()
        seen, unread, is_whole = {digest}, [digest], True
        while unread:
            parts = await asyncio.gather(*(self._parts(repository, child) for child in unread))
            is_whole &= None not in parts
            readable = [part for part in parts if part is not None]
            configs.update(config for part_configs, _ in readable for config in part_configs)
            unread = list({child for _, children in readable for child in children} - seen)
            seen.update(unread)
            if len(seen) > MAX_MANIFESTS:
                return frozenset()
        if is_whole:
            if len(self._configs) >= MAX_CACHED_CONFIGS:
                self._configs.clear()
            self._configs[digest] = frozenset(configs)
        return frozenset(configs)

    async def _parts(self, repository: str, digest: str) -> tuple[list[str], list[str]] | None:
        """Return the configs and the children that a manifest names; None if it cannot be read."""
        content = bytearray()
        async with self._read_slots, await self._manifest("GET", repository, digest) as response:
            if response.status != 200:
                return None
            async for chunk in response.body():
                content += chunk
                if len(content) > MAX_MANIFEST_BYTES:
                    return None
        try:
            manifest = json.loads(content)
            configs = [manifest["config"]] if "config" in manifest else []
            children = [] if configs else manifest.get("manifests", [])
            return [str(c["digest"]) for c in configs], [str(c["digest"]) for c in children]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    async def _manifest(self, method: str, repository: str, reference: str) -> BackendResponse:
        target = f"/v2/{repository}/manifests/{reference}"
        return await self.ask(target, method=method, silence=MANIFEST_SILENCE_SECONDS)


async def _raced_with_write(request: httpx.Request, response: BackendResponse) -> bool:
    """Return True if the content may exist although the response denies it, because its link was being written.

    distribution writes links in place, also those that all tags of a repository share. A read at that moment gets a
    500, and a manifest that names the content is refused (measured with 2.8.2).
    """
    if request.stream is NO_BODY:
        return request.method in ("GET", "HEAD") and response.status == 500
    is_whole = isinstance(request.stream, httpx.ByteStream)
    is_refused = is_whole and response.status in (400, 500)
    return is_refused and _UNKNOWN_PART in await response.buffer()
