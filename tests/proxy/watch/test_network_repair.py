"""Clusters are looked after each time Docker has come, and the networks we are on whenever a node comes or goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

from autoregistry.cluster.addresses import Collision
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice
from autoregistry.proxy.watch.network_repair import NetworkRepair


async def test_docker_that_comes_back_is_looked_after_again() -> None:
    taken = Collision("k3d-dev", "10.0.0.3", "server", "agent", is_by_chance=True)
    returns: list[list[Collision] | None] = [[], [taken], None]
    did: list[str] = []
    said: list[Event] = []
    everything = asyncio.Event()
    node_starts = threading.Semaphore(0)

    def give_back() -> list[Collision]:
        found = returns.pop() if returns else []
        if found is None:
            raise DockerUnreachable("Docker has just started")
        return found

    def leave_gone() -> list[str]:
        did.append("leave")
        return ["k3d-old"] if did[-2] == "destroy" else []

    def rejoin() -> list[str]:
        did.append("rejoin")
        return ["k3d-dev"] if did[-2] == "start" else []

    def changes() -> Iterator[str | None]:
        for change in (None, "destroy", "start"):
            did.append(change or "listen")
            yield change
        node_starts.release()
        raise DockerUnreachable("Docker went away")

    def tell(event: Event) -> None:
        said.append(event)
        if len(said) == len({"given back", "left", "joined", "left again", "joined again"}):
            everything.set()

    tending = NetworkRepair(give_back, leave_gone, rejoin, changes, 0.01)
    running = asyncio.create_task(tending.run(tell))
    for _ in range(2):
        assert await asyncio.to_thread(node_starts.acquire, timeout=10)
    async with asyncio.timeout(10):
        await everything.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    once = ["listen", "leave", "rejoin", "destroy", "leave", "start", "rejoin"]
    assert did[:14] == once * 2
    assert set(said) == {
        Notice("server has its address 10.0.0.3 back from agent, and runs"),
        Notice("left network k3d-old: its cluster is gone"),
        Notice("joined network k3d-dev: its nodes pull from here"),
    }
