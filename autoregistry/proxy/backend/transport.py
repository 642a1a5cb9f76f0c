"""httpx over aiohttp, with bytes as they came: raw targets, repeated headers in order, larger reads.

httpx's own connection pool halves the speed of a pipe, and merges what it normalises (docs/decisions.md, "The
HTTP edges"). This module knows nothing about registries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict
from yarl import URL

from autoregistry.proxy.backend.pipe import Pipe, SharedBuffer
from autoregistry.proxy.compat import (
    AiohttpResponseStream,
    ResilientSocket,
    Upload,
    map_aiohttp_exceptions,
    take_over_body,
)

Headers = list[tuple[bytes, bytes]]

READ_BYTES = 256 * 1024
# Each open response, some of them to clients that do not read, holds a few times as much as this.
READ_BYTES_WHEN_BUSY = 32 * 1024
BUSY_RESPONSES = 8
# A connection that a pipe has read from is not used again; below this a new one costs more than the pipe saves.
PIPE_FROM_BYTES = 1024 * 1024

# RFC 9110, 7.6.1; `Expect` is answered by the proxy itself.
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

# Longer than any line that a client may send, because a redirect repeats it.
_MAX_RESPONSE_LINE_BYTES = 64 * 1024
_NO_DEFAULTS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers for the final recipient, in order: not the hop-by-hop ones, and not those `Connection` lists.

    Host stays even if `Connection` lists it: the registry makes its Locations of it.
    """
    all_headers = list(headers)
    listed = {
        name.strip().lower()
        for key, value in all_headers
        if key.lower() == b"connection"
        for name in value.split(b",")
    } - {b"host"}
    return [
        (k, v) for k, v in all_headers if k.lower() not in HOP_BY_HOP and k.lower() not in listed
    ]


def _aiohttp_headers(headers: Headers) -> CIMultiDict[str]:
    """Give each name one spelling: aiohttp keeps only the last value of a name in two spellings."""
    spellings: dict[bytes, str] = {}
    return CIMultiDict(
        (spellings.setdefault(k.lower(), k.decode("latin-1")), header_text(v)) for k, v in headers
    )


def header_text(value: bytes) -> str:
    """Return a header's value as the text for which aiohttp, which writes UTF-8, writes these bytes if it can."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _RawStream(AiohttpResponseStream):
    """The body of a response: piece by piece, or through a pipe."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        read_bytes: int,
        buffer: SharedBuffer,
        on_close: Callable[[], None],
    ) -> None:
        super().__init__(response)
        self.CHUNK_SIZE = read_bytes
        self._response, self._buffer = response, buffer
        self._on_close: Callable[[], None] | None = on_close

    def pipe(self) -> tuple[bytes, Pipe] | None:
        """Return the bytes of a large body that have arrived and a pipe for the rest; None: read it piece by piece."""
        if (body := take_over_body(self._response, PIPE_FROM_BYTES)) is None:
            return None
        begun, source, remaining = body
        return begun, Pipe(source, remaining, self._buffer, self.CHUNK_SIZE)

    async def aclose(self) -> None:
        if self._on_close is not None:
            self._on_close()
            self._on_close = None
        await super().aclose()


class RawTransport(AiohttpTransport):
    """httpx over aiohttp that changes neither the target nor repeated headers, and reads more at once."""

    _open_responses = 0
    _buffer = SharedBuffer(READ_BYTES)

    def _response_closed(self) -> None:
        self._open_responses -= 1

    def get_client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=30,
                socket_factory=lambda address: ResilientSocket(*address[:3]),
            ),
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            max_line_size=_MAX_RESPONSE_LINE_BYTES,
            max_field_size=_MAX_RESPONSE_LINE_BYTES,
            trust_env=False,
            skip_auto_headers=_NO_DEFAULTS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        base = URL(request.extensions["base"])
        # The whole target as the path: yarl would drop an empty query, and everything after a `#`.
        target = base.raw_path.rstrip("/") + request.extensions["target"]
        timeout, body = request.extensions["timeout"], request.extensions.get("body")
        is_busy = self._open_responses >= BUSY_RESPONSES
        read_bytes = READ_BYTES_WHEN_BUSY if is_busy else READ_BYTES
        with map_aiohttp_exceptions():
            response = await self.client.request(
                request.method,
                URL.build(
                    scheme=base.scheme, authority=base.raw_authority, path=target, encoded=True
                ),
                headers=_aiohttp_headers(request.headers.raw),
                data=Upload(body, timeout["write"]) if body is not None else None,
                allow_redirects=False,
                read_bufsize=read_bytes,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=timeout["connect"], sock_read=timeout["read"]
                ),
            )
        self._open_responses += 1
        stream = _RawStream(response, read_bytes, self._buffer, self._response_closed)
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
