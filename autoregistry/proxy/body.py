"""A request's body on its way to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp.streams import StreamReader


class Stalled(Exception):
    """The client stopped in the middle of its request."""


class Body:
    """A request's body as it comes; a client that stops in the middle of it ends it."""

    def __init__(self, content: StreamReader, seconds: float) -> None:
        self._content, self._seconds = content, seconds
        self.stalled = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    chunk = await self._content.readany()
            except TimeoutError:
                self.stalled = True
                raise Stalled(f"no more of the body within {self._seconds:g} s") from None
            if not chunk:
                return
            yield chunk
