"""The body of a client's request on its way to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from aiohttp import ClientError, web

from autoregistry.errors import BackendUnreachable
from autoregistry.events import Answer
from autoregistry.proxy.compat import HttpProcessingError, StreamReader
from autoregistry.proxy.http.responses import error_response


class ClientStalled(Exception):
    """The client stopped in the middle of its request."""


class BodyTruncated(Exception):
    """The body ended early or is not framed as it was announced."""


class ClientBody:
    """A body, read as it arrives. It ends with ClientStalled if nothing arrives for some time."""

    def __init__(self, content: StreamReader, seconds: float) -> None:
        self._content, self._seconds = content, seconds
        self.stalled: ClientStalled | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    chunk = await self._content.readany()
            except TimeoutError:
                self.stalled = ClientStalled(f"the body stood still for {self._seconds:g} s")
                raise self.stalled from None
            if not chunk:
                return
            yield chunk


class BufferedBody:
    """A body of which the first bytes, or all bytes, have been read."""

    def __init__(self, begun: list[bytes], rest: AsyncIterator[bytes], *, is_whole: bool) -> None:
        self._begun, self._rest, self.is_whole = begun, rest, is_whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._begun:
            yield chunk
        async for chunk in self._rest:
            yield chunk


async def read_ahead(body: AsyncIterable[bytes], limit: int) -> BufferedBody:
    """Read up to `limit` bytes of a body, so that code that waits for it later does not wait for the client.

    Raises ClientStalled, BodyTruncated.
    """
    begun, size, rest = [], 0, aiter(body)
    try:
        while size <= limit and (chunk := await anext(rest, b"")):
            begun.append(chunk)
            size += len(chunk)
    except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as exc:
        raise BodyTruncated(f"the body ended early: {type(exc).__name__}") from exc
    return BufferedBody(begun, rest, is_whole=size <= limit)


def failure_response(
    cause: BackendUnreachable | ClientStalled | BodyTruncated, body: ClientBody | None
) -> web.Response:
    """Return the response to a request that failed. A stalled body may be the cause of the registry's failure."""
    if isinstance(cause, BodyTruncated):
        response = error_response(Answer.MALFORMED_REQUEST, str(cause))
        response.force_close()  # what follows on this connection may be the rest of it
        return response
    stalled = cause if isinstance(cause, ClientStalled) else body and body.stalled
    if stalled:
        return error_response(Answer.CLIENT_STALLED, str(stalled))
    return error_response(Answer.BACKEND_UNREACHABLE, str(cause))
