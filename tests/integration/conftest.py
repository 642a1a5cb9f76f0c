"""Real engines from `dev.lab`. A missing one is a failure if CI is set, else a skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from dev import lab
from dev.lab import Docker, Registry
from dev.lab.cache import RUN, locked
from tests.integration.helpers.availability import or_skip
from tests.integration.helpers.serving import Serve, serving, write_hosts_toml
from tests.integration.helpers.shared import close_clusters


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of one daemon in one worker, so that the two image stores are tested in parallel."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.get_closest_marker("xdist_group"):
            continue
        if item.get_closest_marker("engine"):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            store = parameters.get("engine") or parameters.get("subject") or "no daemon"
            item.add_marker(pytest.mark.xdist_group(str(store)))


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Delete a shared cluster after the last consecutive test that uses it."""
    keep = ""
    if isinstance(nextitem, pytest.Function) and "clusters" in nextitem.fixturenames:
        keep = str(nextitem.callspec.params["engine"])
    close_clusters(keep)


@pytest.fixture(scope="session", params=["classic", "containerd"])
def engine(request: pytest.FixtureRequest) -> Iterator[Docker]:
    """A Docker daemon of each image store."""
    daemon = or_skip(lambda: lab.docker(request.param))
    yield daemon
    daemon.leave()


@pytest.fixture
def other_engine(engine: Docker) -> Iterator[Docker]:
    """The daemon of the other store, undisturbed: a client without any of the images."""
    store: Literal["classic", "containerd"]
    store = "containerd" if engine.store == "classic" else "classic"
    with locked(f"disturb-{store}", directory=RUN):
        daemon = or_skip(lambda: lab.docker(store))
        yield daemon
        daemon.leave()


@pytest.fixture
def disturbing(engine: Docker) -> Iterator[Docker]:
    """The daemon for tests that freeze, kill or restart it; no other test uses it meanwhile."""
    with locked(f"disturb-{engine.store}", directory=RUN):
        yield engine


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, engine: Docker) -> Iterator[Registry]:
    """A stock registry:2 (distribution 2.8)."""
    started = lab.start_registry(tmp_path_factory.mktemp("registry"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def serve(
    engine: Docker, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """`autoregistry serve` that pushes only when a client pulls."""
    with serving(engine, registry, tmp_path_factory.mktemp("state"), "--no-watch") as started:
        yield started


@pytest.fixture(scope="module")
def hosts_dir(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's certs.d, which mirrors our name under another address, so that the node sends `?ns=`."""
    return write_hosts_toml(tmp_path_factory.mktemp("certs.d"), serve)
