"""Nodes get their addresses back each time Docker has come, and nobody looks in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

from autoregistry.cluster.addresses import Collision
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice
from autoregistry.proxy.addresses import LOOKS, Addresses


async def test_docker_that_comes_back_is_looked_after_again() -> None:
    taken = Collision("k3d-dev", "10.0.0.3", "server", "agent", is_by_chance=True)
    looks: list[list[Collision]] = [[], [taken]]
    asked: list[str] = []
    said: list[Event] = []
    is_gone, is_done = threading.Event(), threading.Event()

    def give_back() -> list[Collision]:
        asked.append("look")
        return looks.pop() if looks else []

    def until_docker_ends() -> Iterator[object]:
        asked.append("wait")
        if is_gone.is_set():
            is_done.set()
        is_gone.set()
        yield {"name": "a container that starts"}
        raise DockerUnreachable("Docker went away")

    running = asyncio.create_task(Addresses(give_back, until_docker_ends, 0.001).run(said.append))
    await asyncio.to_thread(is_done.wait, 10)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert asked[: 2 * LOOKS + 2] == [*["look"] * LOOKS, "wait"] * 2
    assert said == [Notice("server has its address 10.0.0.3 back from agent, and runs")]
