"""httpx over aiohttp, with bytes as they came: raw targets, repeated headers in order, larger reads.

httpx's own connection pool halves the speed of a pipe, and merges what it normalises (docs/decisions.md, "The
HTTP edges"). This module knows nothing about registries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict
from yarl import URL

from autoregistry.proxy.backend.pipe import READ_BYTES, Pipe
from autoregistry.proxy.compat import (
    AiohttpResponseStream,
    ResilientSocket,
    Upload,
    map_aiohttp_exceptions,
    take_over_body,
)

Headers = list[tuple[bytes, bytes]]

# Each open response, some of them to clients that do not read, holds a few times as much as this.
READ_BYTES_WHEN_BUSY = 32 * 1024
BUSY_RESPONSES = 8
# A connection that a pipe has read from is not used again; below this a new one costs more than the pipe saves.
PIPE_FROM_BYTES = 1024 * 1024

# RFC 9110, 7.6.1; `Expect` is answered by the proxy itself.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade expect".split()
)
NO_BODY = httpx.ByteStream(b"")

# Longer than any line that a client may send, because a redirect repeats it.
_MAX_RESPONSE_LINE_BYTES = 64 * 1024
_NO_DEFAULTS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
_ANY_URL = httpx.URL("http://backend")


def raw_request(
    method: str, target: str, headers: Headers, body: httpx.AsyncByteStream = NO_BODY
) -> httpx.Request:
    """Return a request to the backend, to which nothing is added. A URL would normalise the target."""
    extensions = {"target": target}
    return httpx.Request(method, _ANY_URL, headers=headers, stream=body, extensions=extensions)


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers for the final recipient, in order: not the hop-by-hop ones, and not those `Connection` lists.

    Host stays even if `Connection` lists it: the registry makes its Locations of it.
    """
    lower = [(key.lower(), key, value) for key, value in headers]
    listed = b",".join(value for name, _, value in lower if name == b"connection").lower()
    dropped = HOP_BY_HOP | {name.strip() for name in listed.split(b",")} - {b"host"}
    return [(key, value) for name, key, value in lower if name not in dropped]


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
        self, response: aiohttp.ClientResponse, read_bytes: int, open_streams: set[_RawStream]
    ) -> None:
        super().__init__(response)
        self.CHUNK_SIZE = read_bytes
        self._response, self._open = response, open_streams
        open_streams.add(self)

    def pipe(self) -> tuple[bytes, Pipe] | None:
        """Return the bytes of a large body that have arrived and a pipe for the rest; None: read it piece by piece."""
        if (body := take_over_body(self._response, PIPE_FROM_BYTES)) is None:
            return None
        begun, source, remaining = body
        return begun, Pipe(source, remaining, self.CHUNK_SIZE)

    async def aclose(self) -> None:
        self._open.discard(self)
        await super().aclose()


class RawTransport(AiohttpTransport):
    """httpx over aiohttp that changes neither the target nor repeated headers, and reads more at once."""

    def __init__(self, base: str) -> None:
        self._session = aiohttp.ClientSession(
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
        super().__init__(client=self._session)
        self._base = URL(base)
        self._open: set[_RawStream] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # The whole target as the path: yarl would drop an empty query, and everything after a `#`.
        path = self._base.raw_path.rstrip("/") + request.extensions["target"]
        timeout, body = request.extensions["timeout"], cast(httpx.AsyncByteStream, request.stream)
        read_bytes = READ_BYTES if len(self._open) < BUSY_RESPONSES else READ_BYTES_WHEN_BUSY
        with map_aiohttp_exceptions():
            response = await self._session.request(
                request.method,
                self._base.with_path(path, encoded=True),
                headers=_aiohttp_headers(request.headers.raw),
                data=None if body is NO_BODY else Upload(body, timeout["write"]),
                allow_redirects=False,
                read_bufsize=read_bytes,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=timeout["connect"], sock_read=timeout["read"]
                ),
            )
        stream = _RawStream(response, read_bytes, self._open)
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=stream,
            extensions={
                "reason_phrase": (response.reason or "").encode("latin-1", "replace"),
                "pipe": stream.pipe,  # httpx wraps the stream itself
            },
        )
