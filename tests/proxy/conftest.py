"""The whole proxy on a real socket, over fakes of each image store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoregistry.names import RegistryNames
from autoregistry.settings import Address, Settings
from tests.fakes.docker import FakeDocker
from tests.fakes.registry import FakeRegistry
from tests.helpers.proxy_lab import NAME, Lab


@pytest.fixture(params=["containerd", "classic"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def idle_lab(tmp_path: Path, store: str) -> AsyncIterator[Lab]:
    async with FakeRegistry() as registry:
        settings = Settings(
            listen=(Address("127.0.0.1", 0),),
            backend=registry.url,
            names=RegistryNames(NAME, ("127.0.0.1:5000",)),
            state=tmp_path,
            patience=5,
            watch=False,
        )
        yield Lab(registry, FakeDocker(store), settings)


@pytest.fixture
async def lab(idle_lab: Lab) -> AsyncIterator[Lab]:
    async with idle_lab.serving():
        yield idle_lab


@pytest.fixture
async def watching_lab(idle_lab: Lab) -> AsyncIterator[Lab]:
    idle_lab.settings = replace(idle_lab.settings, watch=True)
    async with idle_lab.serving():
        yield idle_lab
