"""HTTP by hand: a backend and a client that see and send exact bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Script = Callable[["Exchange"], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Exchange:
    """One request as it reached the backend."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def request_line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    def values(self, name: bytes) -> list[bytes]:
        lines = [line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line]
        return [value.strip() for key, _, value in lines if key.lower() == name]

    async def body(self) -> bytes:
        if length := self.values(b"content-length"):
            return await self.reader.readexactly(int(length[0]))
        content = b""
        if self.values(b"transfer-encoding"):
            while size := int(await self.reader.readline(), 16):
                content += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        return content


@dataclass
class RawBackend:
    """Answers as `script` says; keeps every head it was sent."""

    script: Script | None = None
    seen: list[Exchange] = field(default_factory=list)
    answer: bytes = OK
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RawBackend]:
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._talk(reader, writer))
            tasks.add(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                    await task

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head[:-2], reader, writer)
                self.seen.append(exchange)
                if self.script is not None:
                    await self.script(exchange)
                else:
                    await exchange.body()
                    writer.write(self.answer)
                    await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@dataclass
class RawClient:
    """A connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, text: bytes) -> None:
        self.writer.write(text)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def head(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readexactly(size)

    async def everything(self, seconds: float = 10) -> bytes:
        """All that comes until the other side closes, or has been silent for a while."""
        got = b""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                while chunk := await self.reader.read(1 << 16):
                    got += chunk
        return got


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
