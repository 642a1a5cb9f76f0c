"""Leaving and removing the networks of deleted clusters.

`k3d cluster delete` disconnects registries from the network only if it recognises Docker's reason for not removing
the network. It does not recognise the message of Docker 28 (k3d pkg/runtimes/docker/network.go).
"""

from __future__ import annotations

import time
from contextlib import suppress

from autoregistry.cluster.nodes import CLUSTER_LABEL
from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.networks import Networks
from autoregistry.errors import DockerRefused

# A user who deletes a cluster may create it again at once, and k3d then uses the network that it finds.
NETWORK_GRACE_SECONDS = 3.0


def leave_deleted_clusters(
    containers: Containers,
    networks: Networks,
    members: tuple[str, ...],
    grace_seconds: float = NETWORK_GRACE_SECONDS,
) -> list[str]:
    """Disconnect our containers from every network of k3d that no cluster uses any more; return those networks."""
    existing = containers.list("app=k3d")
    ours = [c for c in existing if c.name in members]
    unused = [
        network
        for network in sorted({network for c in ours for network in c.networks} - _used(existing))
        if (networks.labels(network) or {}).get("app") == "k3d"
    ]
    identities = {network: networks.identity(network) for network in unused}
    for network in unused:
        for container in ours:
            containers.disconnect(network, container.name)
    if unused:
        time.sleep(grace_seconds)
        for network in set(unused) - _used(containers.list("app=k3d")):
            # By its Id: k3d may just have created another network of this name.
            if (identity := identities[network]) is not None:
                remove_unused(networks, identity)
    return unused


def _used(containers: list[Container]) -> set[str]:
    """Return the networks of clusters, running or not."""
    return {network for c in containers if c.labels.get(CLUSTER_LABEL) for network in c.networks}


def remove_unused(networks: Networks, network: str) -> None:
    """Remove a network that k3d created and that has no containers.

    k3d itself keeps a network to which a node was added later.
    """
    labels = networks.labels(network)
    if labels is not None and labels.get("app") == "k3d" and not networks.members(network):
        with suppress(DockerRefused):  # k3d has removed it, or a container has joined it
            networks.remove(network)
