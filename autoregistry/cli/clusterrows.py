"""The k3d clusters of a Docker, and how each pulls: for `cluster list` and `status`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from autoregistry.cli.environment import Clusters, Road
from autoregistry.errors import AutoregistryError
from autoregistry.stack.model import PROXY

NOT_JOINED = "Docker's network, which the registry is not on"


@dataclass(frozen=True, slots=True)
class Row:
    """A cluster, and how it pulls."""

    name: str
    nodes: int
    running: int
    attached: int
    """Nodes that pull through us."""
    via: str


def rows(clusters: Clusters) -> list[Row]:
    """Every k3d cluster of this Docker, attached or not."""
    everything = clusters.nodes.all()
    networks = clusters.containers.networks_of(PROXY)
    found = []
    for cluster_name in sorted({node.cluster for node in everything}):
        nodes = [node for node in everything if node.cluster == cluster_name]
        files = []
        for node in nodes:
            with suppress(AutoregistryError):  # it stops just now, or hangs
                files += [clusters.files.known(node)] if node.is_running else []
        road = clusters.road(files)
        found.append(
            Row(
                name=cluster_name,
                nodes=len(nodes),
                running=sum(node.is_running for node in nodes),
                attached=sum(road.name in file for file in files) if road else 0,
                via=_via(road, is_joined=nodes[0].network in networks, own=clusters.options.name),
            )
        )
    return found


def _via(road: Road | None, *, is_joined: bool, own: str) -> str:
    if road is None:
        return "not attached"
    if not road.is_by_host:
        return "Docker's network" if is_joined else NOT_JOINED
    return "the host's address" + ("" if road.name == own else f", as {road.name}")
