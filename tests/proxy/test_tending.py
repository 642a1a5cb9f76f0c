"""Clusters are looked after each time Docker has come; their networks then, once it is listened to, and at removals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

from autoregistry.cluster.addresses import Collision
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice
from autoregistry.proxy.tending import LOOKS, Tending


async def test_docker_that_comes_back_is_looked_after_again() -> None:
    taken = Collision("k3d-dev", "10.0.0.3", "server", "agent", is_by_chance=True)
    looks: list[list[Collision]] = [[], [taken]]
    asked: list[str] = []
    said: list[Event] = []
    is_gone, is_done = threading.Event(), threading.Event()

    def give_back() -> list[Collision]:
        asked.append("look")
        return looks.pop() if looks else []

    def leave_gone() -> list[str]:
        return ["k3d-old"] if asked[-1] == "wait" else []

    def removals() -> Iterator[object]:
        asked.append("wait")
        if is_gone.is_set():
            is_done.set()
        is_gone.set()
        yield None  # it is listened to
        raise DockerUnreachable("Docker went away")

    running = asyncio.create_task(Tending(give_back, leave_gone, removals, 0.001).run(said.append))
    await asyncio.to_thread(is_done.wait, 10)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert asked[: 2 * LOOKS + 2] == [*["look"] * LOOKS, "wait"] * 2
    assert said[:2] == [
        Notice("server has its address 10.0.0.3 back from agent, and runs"),
        Notice("left network k3d-old: its cluster is gone"),
    ]
