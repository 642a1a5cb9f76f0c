"""The whole proxy between a raw client and a raw backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autoregistry.events import Event
from autoregistry.names import RegistryNames
from autoregistry.proxy import app
from autoregistry.settings import Address, Limits, Settings
from tests.fakes.docker import NONCE, FakeDocker
from tests.fakes.nodes import FakeNodes
from tests.fakes.wire import RawBackend, RawClient, connected


@dataclass
class Wire:
    """Both sides of the proxy: a raw client and a raw backend."""

    backend: RawBackend
    docker: FakeDocker
    events: list[Event] = field(default_factory=list)
    port: int = 0
    stop: Callable[..., Coroutine[None, None, None]] = field(init=False)

    def client(self) -> AbstractAsyncContextManager[RawClient]:
        return connected(self.port)

    async def response_to(self, request: bytes, seconds: float = 10) -> bytes:
        """Return all bytes of the response to a request that ends with `Connection: close`, or is refused."""
        async with self.client() as client:
            await client.send(request)
            return await client.everything(seconds)


@asynccontextmanager
async def between(
    state: Path,
    limits: Limits | None = None,
    backend: RawBackend | None = None,
    *,
    allow_host: tuple[str, ...] = (),
) -> AsyncIterator[Wire]:
    async with (backend or RawBackend()).serving() as behind:
        wire = Wire(behind, FakeDocker())
        settings = Settings(
            listen=(Address("127.0.0.1", 0),),
            backend=behind.url,
            names=RegistryNames("localhost:5000", ("127.0.0.1:5000",)),
            state=state,
            watch=False,
            refresh=False,
            allow_host=allow_host,
            limits=limits or Limits(),
        )
        docker = app.Docker(wire.docker, wire.docker.follow, FakeNodes(), NONCE)
        async with (
            wire.docker.followed(),
            app.running(settings, docker, wire.events.append) as proxy,
        ):
            wire.stop = proxy.server.stop
            wire.port = proxy.server.addresses[0][1]
            yield wire
