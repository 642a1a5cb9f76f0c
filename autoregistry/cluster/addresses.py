"""The addresses of containers on clusters' networks: conflicts, and the addresses that we take ourselves.

`k3d cluster create --subnet` fixes the addresses of servers only. When Docker starts, it starts every container at
once, and may give an agent or load balancer the address of a server that starts later. That server then stays down
with `Address already in use` (k3d-io/k3d#1637, kind#2045). Our own containers never cause this: they have fixed
addresses at the end of the network's range, where Docker does not look for free ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.networks import Networks

ADDRESS_TAKEN = "Address already in use"
# A node's kubelet ends within this time; k3d's entry point drains it first.
NODE_STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Collision:
    """Two containers of which only one can have an address."""

    network: str
    address: str
    owner: str
    """The container that was created with this address."""
    holder: str
    """The container that has this address now, or was created with it as well."""
    is_by_chance: bool
    """Docker chose the address for the holder, and will choose another one next time."""

    def __str__(self) -> str:
        return f"{self.owner} and {self.holder} both want {self.address} on network {self.network}"


def collisions(containers: Iterable[Container]) -> Iterator[Collision]:
    """Return every collision among these containers."""
    for owner, holder in permutations(containers, 2):
        for network in owner.networks:
            address, chosen = owner.static_address(network), holder.static_address(network)
            is_first = owner.name < holder.name or not chosen
            if address and is_first and address in (chosen, holder.networks.get(network)):
                yield Collision(network, address, owner.name, holder.name, not chosen)


def restore_addresses(containers: Containers) -> list[Collision]:
    """Start the nodes that are down because Docker gave their address to another node.

    Returns the collisions that this resolved.
    """
    existing = containers.list("app=k3d")
    down = {
        c.name for c in existing if not c.is_running and c.error.strip().endswith(ADDRESS_TAKEN)
    }
    resolved = [c for c in collisions(existing) if c.owner in down and c.is_by_chance]
    holders = sorted({collision.holder for collision in resolved})
    for holder in holders:
        containers.stop(holder, NODE_STOP_SECONDS)
    try:
        for owner in sorted({collision.owner for collision in resolved}):
            containers.start(owner)
    finally:  # if another container took the address meanwhile, those that we stopped are still started
        for holder in holders:
            containers.start(holder)
    return resolved


def endpoint_config(
    networks: Networks, network: str, member: str, containers: Iterable[Container]
) -> dict[str, object]:
    """Return the `EndpointConfig` for `connect`, with an address that no container has or was created with.

    The addresses of stopped containers count as taken.
    """
    claimed = {
        address
        for container in containers
        for address in (container.static_address(network), container.networks.get(network))
        if address and container.name != member
    }
    taken = claimed | networks.addresses(network)
    return {"IPAMConfig": {"IPv4Address": last_free_address(networks.subnet(network), taken)}}


def last_free_address(subnet: str | None, taken: Iterable[str]) -> str:
    """Return the last free address of a subnet; empty if there is none, or no IPv4 subnet."""
    if subnet is None:
        return ""
    block, used = ipaddress.ip_network(subnet), frozenset(taken)
    numbers = range(int(block.broadcast_address) - 2, int(block.network_address), -1)
    addresses = (str(ipaddress.ip_address(n)) for n in numbers)
    return next((a for a in addresses if a not in used), "")
