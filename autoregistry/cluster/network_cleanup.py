"""Clusters that were deleted without us: leaving their networks, so that nothing of them stays.

`k3d cluster delete` takes registries off the network by itself, but only where it understands why Docker does not
let it remove one: with Docker 28's words for that it does not (k3d pkg/runtimes/docker/network.go).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from autoregistry.cluster.nodes import CLUSTER_LABEL
from autoregistry.engine.containers import Container
from autoregistry.errors import DockerRefused

# Who deletes a cluster may create it again at once, and k3d then takes the network that it finds.
GRACE_SECONDS = 3.0


class Containers(Protocol):
    """What is needed of the engine (`engine/containers.py`)."""

    def list(self, *labels: str) -> list[Container]: ...
    def disconnect(self, network: str, container: str) -> bool: ...


class Networks(Protocol):
    """What is needed of the engine (`engine/networks.py`)."""

    def identity(self, network: str) -> str | None: ...
    def labels(self, network: str) -> Mapping[str, str] | None: ...
    def members(self, network: str) -> tuple[str, ...]: ...
    def remove(self, network: str) -> None: ...


def leave_gone(
    containers: Containers,
    networks: Networks,
    members: tuple[str, ...],
    grace_seconds: float = GRACE_SECONDS,
) -> list[str]:
    """Take these containers off every network of k3d's that no cluster is on any more; the networks left."""
    everybody = containers.list("app=k3d")
    ours = [c for c in everybody if c.name in members]
    left = [
        network
        for network in sorted(
            {network for c in ours for network in c.networks} - _wanted(everybody)
        )
        if (networks.labels(network) or {}).get("app") == "k3d"
    ]
    identities = {network: networks.identity(network) for network in left}
    for network in left:
        for container in ours:
            containers.disconnect(network, container.name)
    if left:
        time.sleep(grace_seconds)
        for network in set(left) - _wanted(containers.list("app=k3d")):
            # By its Id: one of that name k3d may just have made, and be about to use.
            if (identity := identities[network]) is not None:
                remove_left(networks, identity)
    return left


def _wanted(everybody: list[Container]) -> set[str]:
    """The networks of clusters, running or not."""
    return {network for c in everybody if c.labels.get(CLUSTER_LABEL) for network in c.networks}


def leave(
    containers: Containers, networks: Networks, network: str, members: tuple[str, ...]
) -> None:
    """Take these containers off a network that nobody else is on, and remove it if k3d made it."""
    if set(networks.members(network)) <= set(members):
        for member in members:
            containers.disconnect(network, member)
        remove_left(networks, network)


def remove_left(networks: Networks, network: str) -> None:
    """Remove a network that k3d made and nobody is on; k3d keeps one where a node was added later, too."""
    labels = networks.labels(network)
    if labels is not None and labels.get("app") == "k3d" and not networks.members(network):
        with suppress(DockerRefused):  # k3d was quicker, or somebody has come
            networks.remove(network)
