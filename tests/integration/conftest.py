"""Real engines, brought up by `dev.lab`. With CI set a missing one is a failure, else a skip."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from dev import lab
from dev.lab import Docker, Registry
from dev.lab.cache import RUN, locked
from tests.integration.helpers.serving import Serve, serving
from tests.integration.helpers.shared import let_go


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker for all tests of a daemon: the two image stores are tested side by side, and beside the others."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.get_closest_marker("xdist_group"):
            continue
        if item.get_closest_marker("engine"):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            store = parameters.get("engine") or parameters.get("subject") or "no daemon"
            item.add_marker(pytest.mark.xdist_group(str(store)))


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """A shared cluster ends with the last test in a row that wants it."""
    wanted = ""
    if isinstance(nextitem, pytest.Function) and "clusters" in nextitem.fixturenames:
        wanted = str(nextitem.callspec.params["engine"])
    let_go(wanted)


def _or_skip(bring_up: Callable[[], Docker]) -> Docker:
    try:
        return bring_up()
    except lab.LabError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))


@pytest.fixture(scope="session", params=["classic", "containerd"])
def engine(request: pytest.FixtureRequest) -> Iterator[Docker]:
    """A Docker daemon of each image store."""
    daemon = _or_skip(lambda: lab.docker(request.param))
    yield daemon
    daemon.leave()


@pytest.fixture
def other_engine(engine: Docker) -> Iterator[Docker]:
    """The daemon of the other store, undisturbed: a client that has none of the images."""
    store: Literal["classic", "containerd"]
    store = "containerd" if engine.store == "classic" else "classic"
    with locked(f"disturb-{store}", directory=RUN):
        daemon = _or_skip(lambda: lab.docker(store))
        yield daemon
        daemon.leave()


@pytest.fixture
def disturbing(engine: Docker) -> Iterator[Docker]:
    """The daemon, to be frozen, killed and started again while nobody else uses it."""
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
    """`autoregistry serve` that pushes only when asked."""
    with serving(engine, registry, tmp_path_factory.mktemp("state"), "--no-watch") as started:
        yield started


@pytest.fixture(scope="module")
def hosts_dir(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's certs.d: our name is mirrored by us, under another name, so that `?ns=` is sent."""
    return mirror(tmp_path_factory.mktemp("certs.d"), serve)


def mirror(directory: Path, serve: Serve) -> Path:
    """Write the hosts.toml of a node that pulls through `serve`."""
    host = directory / serve.name
    host.mkdir()
    (host / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:9"\n[host."{serve.url}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    return directory
