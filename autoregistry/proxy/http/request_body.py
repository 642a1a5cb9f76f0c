"""The body of a client's request. A manifest is read whole before anything is asked or held for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from aiohttp import ClientError, web

from autoregistry.events import Answer
from autoregistry.proxy.backend.client import MAX_MANIFEST_BYTES
from autoregistry.proxy.compat import HttpProcessingError, StreamReader
from autoregistry.proxy.http.responses import OwnResponse
from autoregistry.settings import PUSH_THREADS

MAX_BUFFERED_BYTES = 64 * 1024 * 1024
# Other clients leave so much for the manifests of our own pushes.
OWN_BUFFERED_BYTES = PUSH_THREADS * MAX_MANIFEST_BYTES


class ClientBody(httpx.AsyncByteStream):
    """A body, read as it arrives. A part of it, or with `is_whole` all of it, must arrive within `seconds`."""

    def __init__(self, content: StreamReader, seconds: float, *, is_whole: bool) -> None:
        self._content, self._seconds = content, seconds
        self._until = asyncio.get_running_loop().time() + seconds if is_whole else None
        self.fault: OwnResponse | None = None
        """The client's fault that ended the body. The registry's failure to respond follows from it."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._read():
            yield chunk

    async def _read(self) -> bytes:
        until = self._until or asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(until):
                return await self._content.readany()
        except TimeoutError:
            sentence = f"the body stood still for {self._seconds:g} s"
            if self._until:
                sentence = f"the manifest did not arrive within {self._seconds:g} s"
            self.fault = OwnResponse(Answer.CLIENT_STALLED, sentence)
        except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as exc:
            sentence = f"the body ended early: {type(exc).__name__}"
            self.fault = OwnResponse(Answer.MALFORMED_REQUEST, sentence, close=True)
        raise self.fault


class ManifestBuffer:
    """The manifests that clients are sending. They share one limit, because any client can begin to send many."""

    def __init__(self) -> None:
        self._used = 0

    @asynccontextmanager
    async def whole(self, body: ClientBody, *, is_own: bool) -> AsyncIterator[httpx.ByteStream]:
        """Read a manifest to its end, and keep it as long as the context lasts. Raises OwnResponse."""
        limit = MAX_BUFFERED_BYTES - (0 if is_own else OWN_BUFFERED_BYTES)
        chunks, size = [], 0
        try:
            async for chunk in body:
                if size + len(chunk) > MAX_MANIFEST_BYTES:
                    sentence = f"a manifest has at most {MAX_MANIFEST_BYTES >> 20} MiB"
                    raise OwnResponse(Answer.MANIFEST_TOO_LARGE, sentence, close=True)
                if self._used + len(chunk) > limit:
                    sentence = "other clients are sending too many manifests, try again"
                    raise OwnResponse(Answer.TOO_BUSY, sentence, close=True)
                chunks.append(chunk)
                size += len(chunk)
                self._used += len(chunk)
            manifest = b"".join(chunks)
            chunks.clear()
            yield httpx.ByteStream(manifest)
        finally:
            self._used -= size
