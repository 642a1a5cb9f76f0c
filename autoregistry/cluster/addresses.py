"""Who has which address on a cluster's network, and giving a node back the one it was made with.

`k3d cluster create --subnet` fixes the addresses of servers only. When Docker starts, it starts everything at once,
and an agent or load balancer may be given the address of a server that comes later: that server then stays down
with `Address already in use` (k3d-io/k3d#1637). Our own containers are never in the way: theirs are fixed, at the
far end of the network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from autoregistry.engine.containers import Container

_TAKEN = "Address already in use"
# A node ends its kubelet within that; k3d's entry point drains it first.
STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Collision:
    """Two containers of which only one can have an address."""

    network: str
    address: str
    owner: str
    """It was given the address for good."""
    holder: str
    """It has it, or was given it as well."""
    is_by_chance: bool
    """Docker chose it for the holder, and will choose another one next time."""

    def __str__(self) -> str:
        return f"{self.owner} and {self.holder} both want {self.address} on network {self.network}"


class Containers(Protocol):
    """What is needed of the engine (`engine/containers.py`)."""

    def list(self, *labels: str) -> list[Container]: ...
    def start(self, container: str) -> None: ...
    def stop(self, container: str, seconds: int = ...) -> None: ...


def collisions(containers: Iterable[Container]) -> Iterator[Collision]:
    """Every one there is among these containers."""
    everybody = list(containers)
    for owner in everybody:
        for network in owner.networks:
            address = owner.static_address(network)
            for holder in everybody if address else ():
                chosen = holder.static_address(network)
                is_first = owner.name < holder.name or not chosen
                if (
                    holder is not owner
                    and is_first
                    and address in (chosen, holder.networks.get(network))
                ):
                    yield Collision(network, address, owner.name, holder.name, not chosen)


def give_back(containers: Containers) -> list[Collision]:
    """Start the nodes that Docker could not start because another node had their address; those that were."""
    everybody = containers.list("app=k3d")
    down = {c.name for c in everybody if not c.is_running and c.error.strip().endswith(_TAKEN)}
    found = [c for c in collisions(everybody) if c.owner in down and c.is_by_chance]
    for holder in sorted({collision.holder for collision in found}):
        containers.stop(holder, STOP_SECONDS)
    try:
        for owner in sorted({collision.owner for collision in found}):
            containers.start(owner)
    finally:  # somebody may have been quicker: those that we stopped are started all the same
        for holder in sorted({collision.holder for collision in found}):
            containers.start(holder)
    return found


class Networks(Protocol):
    """What choosing an address needs of the engine (`engine/networks.py`)."""

    def subnet(self, network: str) -> str | None: ...
    def addresses(self, network: str) -> frozenset[str]: ...


def far_place(
    networks: Networks, network: str, member: str, everybody: Iterable[Container]
) -> dict[str, object]:
    """For `connect`: an address at the far end that nobody has or was made with, those that are stopped included."""
    claimed = {
        address
        for container in everybody
        for address in (container.static_address(network), container.networks.get(network))
        if address and container.name != member
    }
    taken = claimed | networks.addresses(network)
    return {"IPAMConfig": {"IPv4Address": far_address(networks.subnet(network), taken)}}


def far_address(subnet: str | None, taken: Iterable[str]) -> str:
    """The last free address of a network, where no node looks for its own; empty where it has no IPv4."""
    if subnet is None:
        return ""
    block, used = ipaddress.ip_network(subnet), frozenset(taken)
    numbers = range(int(block.broadcast_address) - 2, int(block.network_address), -1)
    addresses = (str(ipaddress.ip_address(n)) for n in numbers)
    return next((a for a in addresses if a not in used), "")
