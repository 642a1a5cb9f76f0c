"""One exchange with the registry behind us: a request as it goes there, and its answer, held for whoever takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from autoregistry.errors import BackendUnreachable
from autoregistry.names import MANIFEST_TYPES
from autoregistry.proxy.backend.pipe import Writable
from autoregistry.proxy.backend.transport import Headers, end_to_end

# What a manifest is refused with whose layer, config or child the registry does not find (distribution-spec).
_UNKNOWN_PART = b"MANIFEST_BLOB_UNKNOWN"


@dataclass(frozen=True, slots=True)
class BackendRequest:
    """A request as it goes to the backend."""

    method: str
    target: str
    headers: Headers
    body: AsyncIterable[bytes] | None = None
    has_whole_body: bool = False
    """Whether all of it has come, and it can be sent a second time."""

    def header(self, name: bytes) -> str | None:
        """All values of a header, joined; None where there is none."""
        values = [v.decode("latin-1") for k, v in self.headers if k.lower() == name]
        return ", ".join(values) if values else None

    @property
    def accepts_every_manifest(self) -> bool:
        accept = self.header(b"accept") or ""
        return all(media_type in accept for media_type in MANIFEST_TYPES)


class BackendResponse:
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
        """Read the body now, such as that of an error, and keep it for whoever forwards it; closes where it cannot."""
        try:
            self._kept = b"".join([chunk async for chunk in self.body()])
        except BaseException:
            await self.close()
            raise
        return self._kept

    async def met_a_write(self, ask: BackendRequest) -> bool:
        """Whether what it says is not there may be: its link was being written.

        distribution writes its links in place, those also that all tags of a repository share: whoever reads one
        just then is told 500, and a manifest that names it is refused (measured with 2.8.2).
        """
        if ask.method in ("GET", "HEAD"):
            return ask.body is None and self.status == 500
        is_refused = ask.has_whole_body and self.status in (400, 500)
        return is_refused and _UNKNOWN_PART in await self.keep()

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
