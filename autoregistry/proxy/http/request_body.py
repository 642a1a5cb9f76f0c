"""A request's body on its way to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from autoregistry.errors import BackendUnreachable
from autoregistry.events import Answer
from autoregistry.proxy.http.responses import error_response


class ClientStalled(Exception):
    """The client stopped in the middle of its request."""


class BodyTruncated(Exception):
    """What comes is not the body that was announced."""


class Body:
    """A request's body as it comes; a client that stops in the middle of it ends it."""

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
    """A body of which the first bytes have come, or all."""

    def __init__(self, begun: list[bytes], rest: AsyncIterator[bytes], *, is_whole: bool) -> None:
        self._begun, self._rest, self.is_whole = begun, rest, is_whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._begun:
            yield chunk
        async for chunk in self._rest:
            yield chunk


async def read_ahead(body: AsyncIterable[bytes], limit: int) -> BufferedBody:
    """The same body, of which so many bytes have come: what then waits for it does not wait for the client.

    Raises Stalled, Broken.
    """
    begun, size, rest = [], 0, aiter(body)
    try:
        while size <= limit and (chunk := await anext(rest, b"")):
            begun.append(chunk)
            size += len(chunk)
    except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as exc:
        raise BodyTruncated(f"the body broke off: {type(exc).__name__}") from exc
    return BufferedBody(begun, rest, is_whole=size <= limit)


def refusal(
    cause: BackendUnreachable | ClientStalled | BodyTruncated, body: Body | None
) -> web.Response:
    """The answer to a request that came to no good end; whoever sends a body may be the cause of the registry's."""
    if isinstance(cause, BodyTruncated):
        response = error_response(Answer.MALFORMED_REQUEST, str(cause))
        response.force_close()  # what follows on this connection may be the rest of it
        return response
    stalled = cause if isinstance(cause, ClientStalled) else body and body.stalled
    if stalled:
        return error_response(Answer.CLIENT_STALLED, str(stalled))
    return error_response(Answer.BACKEND_UNREACHABLE, str(cause))
