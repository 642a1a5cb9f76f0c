"""HTTP out: the stock registry behind us, asked for facts and piped through unchanged."""

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
from autoregistry.proxy.backend.messages import BackendRequest, BackendResponse
from autoregistry.proxy.backend.transport import RawTransport

CONNECT_SECONDS = 5.0
# The registry is silent for long only while it completes an upload of many gigabytes.
SILENCE_SECONDS = 600.0
ASK_SECONDS = 10.0
# How long a write may take that a read has met: some milliseconds, on a disk that stands still a moment.
SEND_AGAIN_SECONDS = 1.6
FIRST_PAUSE_SECONDS = 0.05
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# Anybody may push an index of anything, of itself too, and it is read for whoever asks; one of all platforms has ten.
MAX_MANIFESTS = 101
READ_AT_ONCE = 8
MAX_CONFIGS_KEPT = 10_000


class Backend:
    """One stock registry, at one URL."""

    def __init__(self, url: str, timed: Callable[[float, str], None], idle_seconds: float) -> None:
        """`idle_seconds`: how long it may take nothing of an upload."""
        self.url = url.rstrip("/")
        self._timed, self._idle = timed, idle_seconds
        self.host = self.url.partition("://")[2].partition("/")[0].encode()
        self._client = httpx.AsyncClient(transport=RawTransport(), trust_env=False)
        self._configs: dict[str, frozenset[str]] = {}
        self._reading = asyncio.Semaphore(READ_AT_ONCE)

    async def close(self) -> None:
        await self._client.aclose()

    async def send(
        self, ask: BackendRequest, *, silence: float = SILENCE_SECONDS
    ) -> BackendResponse:
        """Send a request on, briefly again where it met a write, and hold its answer. Raises BackendUnreachable."""
        deadline, pause = 0.0, FIRST_PAUSE_SECONDS
        while True:
            held = await self._send(ask, silence)
            deadline = deadline or time.monotonic() + SEND_AGAIN_SECONDS
            if time.monotonic() + pause > deadline or not await held.met_a_write(ask):
                return held
            await held.close()
            await asyncio.sleep(pause)
            pause *= 2

    async def _send(self, ask: BackendRequest, silence: float) -> BackendResponse:
        request = httpx.Request(
            ask.method,
            self.url,
            headers=ask.headers,
            # With a stream given httpx adds no `Content-Length: 0` of its own; the body goes by the extension.
            stream=httpx.ByteStream(b""),
            extensions={
                "base": self.url,
                "target": ask.target,
                "body": ask.body,
                "timeout": {"connect": CONNECT_SECONDS, "read": silence, "write": self._idle},
            },
        )
        began = time.monotonic()
        try:
            held = BackendResponse(await self._client.send(request, stream=True))
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            self._timed(time.monotonic() - began, "failed")
            raise BackendUnreachable(
                f"the registry at {self.url} does not answer: {exc or type(exc).__name__}",
                f"curl {self.url}/v2/",
            ) from exc
        self._timed(time.monotonic() - began, "ok")
        return held

    async def read(self, ask: BackendRequest) -> BackendResponse:
        """Send a question for a manifest on."""
        return await self.send(ask, silence=ASK_SECONDS)

    async def ask(self, repository: str, reference: str) -> RegistryState:
        """Return the registry's image under a tag or digest. Raises BackendUnreachable."""
        async with await self._manifest("HEAD", repository, reference) as held:
            if held.status not in (200, 404):
                return Unreadable.TAG
            return RegistryImage(held.digest) if held.status == 200 and held.digest else None

    async def configs_behind(self, repository: str, digest: str) -> frozenset[str]:
        """Digests of the configs behind a manifest, or behind the children of an index.

        Kept, for they never change, where all could be read: what is missing may come.
        """
        if digest in self._configs:
            return self._configs[digest]
        found: set[str] = set()
        seen, wanted, is_whole = {digest}, [digest], True
        while wanted:
            parts = await asyncio.gather(*(self._parts(repository, child) for child in wanted))
            is_whole &= None not in parts
            configs_and_children = [part for part in parts if part is not None]
            found.update(config for configs, _ in configs_and_children for config in configs)
            wanted = list({c for _, children in configs_and_children for c in children} - seen)
            seen.update(wanted)
            if len(seen) > MAX_MANIFESTS:
                return frozenset()
        if is_whole:
            if len(self._configs) >= MAX_CONFIGS_KEPT:
                self._configs.clear()
            self._configs[digest] = frozenset(found)
        return frozenset(found)

    async def _parts(self, repository: str, digest: str) -> tuple[list[str], list[str]] | None:
        """The config, or the children, that a manifest names; None where it cannot be read."""
        async with self._reading:
            content = await self._content(repository, digest)
        try:
            manifest = json.loads(content)
            configs = [manifest["config"]] if "config" in manifest else []
            children = [] if configs else manifest.get("manifests", [])
            return [str(c["digest"]) for c in configs], [str(c["digest"]) for c in children]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    async def _content(self, repository: str, digest: str) -> bytes:
        """A manifest; empty where it is missing, or larger than any."""
        content = bytearray()
        async with await self._manifest("GET", repository, digest) as held:
            if held.status != 200:
                return b""
            async for chunk in held.body():
                content += chunk
                if len(content) > MAX_MANIFEST_BYTES:
                    return b""
        return bytes(content)

    async def _manifest(self, method: str, repository: str, reference: str) -> BackendResponse:
        headers = [(b"Host", self.host), (b"Accept", ", ".join(MANIFEST_TYPES).encode())]
        target = f"/v2/{repository}/manifests/{reference}"
        return await self.read(BackendRequest(method, target, headers))
