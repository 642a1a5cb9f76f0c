"""The backend's response, whose body has not been read yet."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import httpx

from autoregistry.errors import BackendUnreachable
from autoregistry.proxy.backend.pipe import Writable
from autoregistry.proxy.backend.transport import end_to_end


class BackendResponse(AbstractAsyncContextManager["BackendResponse"]):
    """The backend's response. The code that holds it closes it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.reason = response.extensions["reason_phrase"].decode("latin-1")
        self.headers = end_to_end(response.headers.raw)
        self.digest: str | None = response.headers.get("docker-content-digest")
        self._buffered: bytes | None = None

    def set_not_found(self) -> None:
        """Turn this response, which must have no body (HEAD), into a 404."""
        self.status, self.reason = 404, "Not Found"

    async def buffer(self) -> bytes:
        """Read the body, such as that of an error, and keep it to be forwarded. Closes the response on failure."""
        try:
            self._buffered = b"".join([chunk async for chunk in self.body()])
        except BaseException:
            await self.close()
            raise
        return self._buffered

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they come. Raises BackendUnreachable if it ends early."""
        if self._buffered is not None:
            yield self._buffered
            return
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx.HTTPError as exc:
            raise BackendUnreachable(f"the registry ended its response early: {exc}") from exc

    async def forward_body(
        self, write: Callable[[bytes], Awaitable[None]], client: Writable, idle_seconds: float
    ) -> None:
        """Send the body to a client. Raises BackendUnreachable if it ends early, TimeoutError if nothing moves."""
        if self._buffered is not None or (piped := self._response.extensions["pipe"]()) is None:
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
            await pipe.transfer(client, idle_seconds)
        except ConnectionError as exc:
            raise BackendUnreachable(f"the registry ended its response early: {exc}") from exc

    async def close(self) -> None:
        await self._response.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def one_line(text: str) -> str:
    """Return a text that fits into a status line: printable ASCII, one line, at most 300 characters."""
    plain = "".join(c if c.isprintable() and c.isascii() else " " for c in text)
    return " ".join(plain.split())[:300]


def error_cause(body: bytes) -> str | None:
    """Return the cause in the registry's error response.

    distribution puts a storage driver's error into `detail`, as a text or as an errno.
    """
    try:
        first = json.loads(body)["errors"][0]
        detail = first.get("detail")
        if isinstance(detail, str):
            return detail.rpartition(": ")[2]
        if isinstance(detail, dict):
            return os.strerror(int(detail["Enclosed"]["Err"])).lower()
        return str(first["message"])
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
