"""A proxy in a container exits when its mounted Docker socket is dead (review 9)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from autoregistry.engine.daemon import Daemon
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Notice
from autoregistry.proxy import app
from autoregistry.proxy.watch import socket_check
from autoregistry.proxy.watch.socket_check import REFUSALS, until_dead
from tests.fakes.docker import NONCE
from tests.helpers.proxy_lab import Lab
from tests.helpers.waiting import until


@contextmanager
def _listening(path: Path) -> Iterator[Daemon]:
    """A daemon whose socket's inode stays when it ends, as in a container."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        yield Daemon("test", {"DOCKER_HOST": f"unix://{path}"})


def test_only_a_local_socket_without_a_listener_refuses(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    missing = Daemon("test", {"DOCKER_HOST": f"unix://{path}"}).refuses()
    with _listening(path) as daemon:
        living = daemon.refuses()

    assert (missing, living, daemon.refuses()) == (True, False, True)
    assert not Daemon("test", {"DOCKER_HOST": "tcp://127.0.0.1:9"}).refuses()


async def test_one_connection_that_is_not_refused_starts_the_count_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket_check, "SOCKET_CHECK_SECONDS", 0)
    results = [True] * (REFUSALS - 1) + [False] + [True] * REFUSALS + [False]

    await until_dead(lambda: results.pop(0))

    assert results == [False]


@pytest.mark.parametrize("container", ["autoregistry", "devcontainer", None])
async def test_only_a_proxy_with_a_restart_policy_exits(
    idle_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str | None
) -> None:
    """Its restart policy then starts it with a new mount. On the host, the same path is the new socket."""
    monkeypatch.setattr(socket_check, "SOCKET_CHECK_SECONDS", 0.02)
    with _listening(tmp_path / "docker.sock") as daemon:
        parts = app.Docker(
            idle_lab.docker,
            idle_lab.docker.follow,
            idle_lab.nodes,
            NONCE,
            socket_refuses=daemon.refuses,
        )
        settings = replace(idle_lab.settings, container=container)
        async with idle_lab.docker.followed():
            serving = asyncio.create_task(app.serve(settings, parts, idle_lab.events.append))
            await until(lambda: any(isinstance(event, Notice) for event in idle_lab.events))
            await asyncio.sleep(0.02 * REFUSALS * 2)
            assert not serving.done()

    # The listener has ended.
    if container == "autoregistry":
        with pytest.raises(DockerUnreachable, match="in this container refuses connections"):
            await serving
    else:
        await asyncio.sleep(0.02 * REFUSALS * 2)
        assert not serving.done()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
