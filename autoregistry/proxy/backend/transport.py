"""httpx over aiohttp, with bytes as they came: raw targets, repeated headers in order, larger reads.

httpx's own connection pool halves the speed of a pipe, and merges what it normalises (docs/decisions.md, "The
HTTP edges"). Knows nothing of registries.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import AsyncIterablePayload
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions
from multidict import CIMultiDict
from yarl import URL

from autoregistry.proxy.backend.pipe import Pipe, Scratch

if TYPE_CHECKING:
    from typing_extensions import Buffer

Headers = list[tuple[bytes, bytes]]

READ_BYTES = 256 * 1024
# With many answers under way, some of them to clients that do not read, each holds a few times as much as this.
READ_BYTES_WHEN_MANY = 32 * 1024
MANY_ANSWERS = 8
# A connection that a pipe has read from is not used again; below this a new one costs more than the pipe saves.
PIPE_FROM_BYTES = 1024 * 1024

# RFC 9110, 7.6.1; `Expect` is answered at our own door.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)

# Longer than any line that a client may send: a redirect repeats it.
_HEAD_BYTES = 64 * 1024
_NO_DEFAULTS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that concern the far end, in order: without hop-by-hop ones and those `Connection` names.

    But for Host, whoever names it: the registry's Locations are made of it.
    """
    kept = list(headers)
    named = {
        name.strip().lower()
        for key, value in kept
        if key.lower() == b"connection"
        for name in value.split(b",")
    } - {b"host"}
    return [(k, v) for k, v in kept if k.lower() not in HOP_BY_HOP and k.lower() not in named]


def _as_text(headers: Headers) -> CIMultiDict[str]:
    """As aiohttp takes them: of a name in two spellings it would keep the last value only."""
    spelled: dict[bytes, str] = {}
    return CIMultiDict(
        (spelled.setdefault(k.lower(), k.decode("latin-1")), text(v)) for k, v in headers
    )


def text(value: bytes) -> str:
    """A header's value so that aiohttp, which writes UTF-8, writes these bytes; others it cannot."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _Socket(socket.socket):
    """One that can be written to after its peer has gone: what the peer said last is then read, and its end seen.

    A registry that refuses an upload answers and hangs up; asyncio drops what it has not read yet when a write fails.
    """

    def send(self, data: Buffer, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Iterable[Buffer], *rest: Any) -> int:  # noqa: ANN401 - never given
        parts = list(buffers)
        try:
            return super().sendmsg(parts, *rest)
        except (BrokenPipeError, ConnectionResetError):
            return sum(memoryview(part).nbytes for part in parts)


class _Upload(AsyncIterablePayload):
    """A request's body; aiohttp waits for ever for somebody who takes none of it."""

    def __init__(self, body: AsyncIterable[bytes], seconds: float) -> None:
        super().__init__(body)
        self._body, self._seconds = body, seconds

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - aiohttp's signature; the client's side has counted
    ) -> None:
        self._consumed = True
        async for chunk in self._body:
            try:
                async with asyncio.timeout(self._seconds):
                    await writer.write(chunk)
            except TimeoutError:
                sentence = f"it took nothing of an upload for {self._seconds:g} s"
                raise TimeoutError(sentence) from None


class _RawStream(AiohttpResponseStream):
    """An answer's body: piece by piece, or the rest of it through a pipe."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        read_bytes: int,
        scratch: Scratch,
        ended: Callable[[], None],
    ) -> None:
        super().__init__(response)
        self.CHUNK_SIZE = read_bytes
        self._response, self._scratch = response, scratch
        self._ended: Callable[[], None] | None = ended

    def pipe(self) -> tuple[bytes, Pipe] | None:
        """What has come of a large body so far, and a pipe for the rest; None where it is to be read by pieces."""
        response, content = self._response, self._response.content
        size = response.content_length
        if size is None or size - content.total_bytes < PIPE_FROM_BYTES:
            return None
        source = response.connection.transport if response.connection else None
        if source is None or source.get_extra_info("sslcontext"):
            return None
        begun = b"".join(iter(content.read_nowait, b""))  # the parser keeps nothing back then
        source.pause_reading()
        return begun, Pipe(source, size - content.total_bytes, self._scratch, self.CHUNK_SIZE)

    async def aclose(self) -> None:
        if self._ended is not None:
            self._ended()
            self._ended = None
        await super().aclose()


class RawTransport(AiohttpTransport):
    """httpx over aiohttp, with the target and the repeated headers exactly as they came, and larger reads."""

    _answers = 0
    _scratch = Scratch(READ_BYTES)

    def _answer_ended(self) -> None:
        self._answers -= 1

    def get_client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=30, socket_factory=lambda found: _Socket(*found[:3])
            ),
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
            trust_env=False,
            skip_auto_headers=_NO_DEFAULTS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        base = URL(request.extensions["base"])
        # The whole target as the path: yarl would drop an empty query, and what stands behind a `#`.
        target = base.raw_path.rstrip("/") + request.extensions["target"]
        timeout, body = request.extensions["timeout"], request.extensions.get("body")
        read_bytes = READ_BYTES if self._answers < MANY_ANSWERS else READ_BYTES_WHEN_MANY
        with map_aiohttp_exceptions():
            response = await self.client.request(
                request.method,
                URL.build(
                    scheme=base.scheme, authority=base.raw_authority, path=target, encoded=True
                ),
                headers=_as_text(request.headers.raw),
                data=_Upload(body, timeout["write"]) if body is not None else None,
                allow_redirects=False,
                read_bufsize=read_bytes,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=timeout["connect"], sock_read=timeout["read"]
                ),
            )
        self._answers += 1
        stream = _RawStream(response, read_bytes, self._scratch, self._answer_ended)
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=stream,
            request=request,
            extensions={
                "reason_phrase": (response.reason or "").encode("latin-1", "replace"),
                "pipe": stream.pipe,  # httpx wraps the stream itself
            },
        )
