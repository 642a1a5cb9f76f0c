"""Networks are repaired when Docker is connected, and when a node starts or is removed."""

from __future__ import annotations

import asyncio

import pytest

from autoregistry.cluster.addresses import Collision
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice
from autoregistry.proxy.background import Background
from autoregistry.proxy.watch import network_repair
from autoregistry.proxy.watch.docker_events import Connected, NodeRemoved, NodeStarted
from autoregistry.proxy.watch.network_repair import NetworkRepair
from tests.helpers.waiting import until


async def test_networks_are_repaired_after_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Collision("k3d-dev", "10.0.0.3", "server", "agent", is_by_chance=True)
    results: list[list[Collision] | None] = [[], [taken], None]
    calls: list[str] = []
    notices: list[Event] = []
    everything = asyncio.Event()

    def give_back() -> list[Collision]:
        collisions = results.pop() if results else []
        if collisions is None:
            raise DockerUnreachable("Docker has just started")
        return collisions

    def leave_gone() -> list[str]:
        calls.append("leave")
        return ["k3d-old"] if len(calls) > 2 else []

    def rejoin() -> list[str]:
        calls.append("rejoin")
        return ["k3d-dev"] if len(calls) > 3 else []

    def emit(event: Event) -> None:
        notices.append(event)
        if len(notices) == len({"address given back", "network left", "network joined"}):
            everything.set()

    monkeypatch.setattr(network_repair, "ADDRESS_CHECK_SECONDS", 0.01)
    background = Background(emit)
    repair = NetworkRepair(give_back, leave_gone, rejoin, emit, background)
    for event in (Connected(0.0), NodeRemoved("old"), NodeStarted("server", "dev", "server")):
        repair.handle(event)
    background.permanently("network-repair", repair.run)
    async with asyncio.timeout(10):
        await everything.wait()
    await background.stop()

    assert calls == ["leave", "rejoin", "leave", "rejoin"]
    assert set(notices) == {
        Notice("server runs again: it has its address 10.0.0.3 back from agent"),
        Notice("left network k3d-old: its cluster was deleted"),
        Notice("joined network k3d-dev: its nodes pull from this registry"),
    }


async def test_addresses_are_checked_again_each_time_docker_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = 0
    rounds = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def give_back() -> list[Collision]:
        nonlocal checks
        checks += 1
        loop.call_soon_threadsafe(rounds.release)
        return []

    monkeypatch.setattr(network_repair, "ADDRESS_CHECK_SECONDS", 3600)
    background = Background(lambda _: None)
    repair = NetworkRepair(give_back, list, list, lambda _: None, background)
    background.permanently("network-repair", repair.run)
    async with asyncio.timeout(10):
        for _ in range(2):
            repair.handle(Connected(0.0))
            await rounds.acquire()
    await background.stop()

    assert checks == 2


async def test_network_of_a_node_that_is_ready_only_later_is_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """k3s writes the node's hosts.toml some seconds after its container has started."""
    monkeypatch.setattr(network_repair, "REJOIN_PAUSES_SECONDS", (0.01, 0.01, 0.01))
    notices: list[Event] = []
    results = [[], [], ["k3d-dev"]]
    background = Background(notices.append)
    repair = NetworkRepair(
        list, list, lambda: results.pop(0) if results else [], notices.append, background
    )
    repair.handle(NodeStarted("server", "dev", "server"))
    background.once("network repair", repair.run())
    await until(lambda: notices)
    await background.stop()

    assert notices == [Notice("joined network k3d-dev: its nodes pull from this registry")]
