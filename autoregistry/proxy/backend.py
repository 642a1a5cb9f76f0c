"""HTTP out: the stock registry behind us, asked for facts and piped through unchanged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import httpx

from autoregistry.decision import RegistryImage
from autoregistry.errors import BackendUnreachable
from autoregistry.names import MANIFEST_TYPES
from autoregistry.proxy.pipe import Writable
from autoregistry.proxy.transport import Headers, RawTransport, end_to_end

CONNECT_SECONDS = 5.0
# The registry is silent for long only while it completes an upload of many gigabytes.
SILENCE_SECONDS = 600.0
ASK_SECONDS = 10.0
READ_AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# Anybody may push an index of anything, of itself too, and it is read for whoever asks; one of all platforms has ten.
MAX_MANIFESTS = 101
READ_AT_ONCE = 8
MAX_CONFIGS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it goes to the backend."""

    method: str
    target: str
    headers: Headers
    body: AsyncIterable[bytes] | None = None

    def header(self, name: bytes) -> str | None:
        """All values of a header, joined; None where there is none."""
        values = [v.decode("latin-1") for k, v in self.headers if k.lower() == name]
        return ", ".join(values) if values else None

    @property
    def accepts_every_manifest(self) -> bool:
        accept = self.header(b"accept") or ""
        return all(media_type in accept for media_type in MANIFEST_TYPES)


class Held:
    """The backend's answer, its body not read yet. Whoever holds it closes it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.reason = response.extensions["reason_phrase"].decode("latin-1")
        self.headers: Headers = end_to_end(response.headers.raw)
        self.digest: str | None = response.headers.get("docker-content-digest")
        self._kept: bytes | None = None

    def count_as_missing(self) -> None:
        """Answer that it is not there, to somebody who will then bring it; there must be no body (HEAD)."""
        self.status, self.reason = 404, "Not Found"

    async def keep(self) -> bytes:
        """Read the body now, such as that of an error, and keep it for whoever forwards it."""
        self._kept = b"".join([chunk async for chunk in self.body()])
        return self._kept

    async def body(self) -> AsyncIterator[bytes]:
        """The body's bytes as they come. Raises BackendUnreachable where it breaks off."""
        if self._kept is not None:
            yield self._kept
            return
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as exc:
            raise BackendUnreachable(f"the registry broke off its answer: {exc}") from exc

    async def pour(
        self, write: Callable[[bytes], Awaitable[None]], to: Writable, idle_seconds: float
    ) -> None:
        """Send the body on. Raises BackendUnreachable where it breaks off, TimeoutError where nothing moves."""
        if self._kept is not None or (piped := self._response.extensions["pipe"]()) is None:
            body = self.body()
            while True:
                async with asyncio.timeout(idle_seconds):
                    if (chunk := await anext(body, None)) is None:
                        return
                    await write(chunk)
        begun, pipe = piped
        async with asyncio.timeout(idle_seconds):
            await write(begun)
        try:
            await pipe.pour(to, idle_seconds)
        except ConnectionError as exc:
            raise BackendUnreachable(f"the registry broke off its answer: {exc}") from exc

    async def close(self) -> None:
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


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

    async def send(self, ask: Ask, *, silence: float = SILENCE_SECONDS) -> Held:
        """Send a request on and hold its answer. Raises BackendUnreachable."""
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
            held = Held(await self._client.send(request, stream=True))
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            self._timed(time.monotonic() - began, "failed")
            raise BackendUnreachable(
                f"the registry at {self.url} does not answer: {exc or type(exc).__name__}",
                f"curl {self.url}/v2/",
            ) from exc
        self._timed(time.monotonic() - began, "ok")
        return held

    async def read(self, ask: Ask) -> Held:
        """Send a question for a manifest on; one that the registry cannot read is asked for again, briefly.

        distribution writes its links in place: whoever reads one just then, also the link that all tags of one
        image share, is told 500 (measured with 2.8.2).
        """
        held = await self.send(ask, silence=ASK_SECONDS)
        for pause in READ_AGAIN_SECONDS:
            if held.status < 500:
                break
            await held.close()
            await asyncio.sleep(pause)
            held = await self.send(ask, silence=ASK_SECONDS)
        return held

    async def ask(self, repository: str, reference: str) -> RegistryImage | None:
        """What the registry has under a tag or digest; None where it has nothing, or nothing it can read.

        An unreadable tag (a link half written when the registry was killed is answered 500) counts as nothing:
        a push mends it.
        """
        async with await self._manifest("HEAD", repository, reference) as held:
            return RegistryImage(held.digest) if held.status == 200 and held.digest else None

    async def is_unreadable(self, repository: str, reference: str) -> bool:
        """Whether it says neither that it is there nor that it is not."""
        async with await self._manifest("HEAD", repository, reference) as held:
            return held.status not in (200, 404)

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

    async def _manifest(self, method: str, repository: str, reference: str) -> Held:
        headers = [(b"Host", self.host), (b"Accept", ", ".join(MANIFEST_TYPES).encode())]
        target = f"/v2/{repository}/manifests/{reference}"
        return await self.read(Ask(method, target, headers))
