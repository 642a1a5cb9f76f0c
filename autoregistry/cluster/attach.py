"""Attaching a running cluster to the registry, and letting go of it again; no restart of anything.

On the cluster's network we take addresses from the far end, where nodes never look for theirs: a node that comes
back after a restart must find its own address free (k3d-io/k3d#1637, kind#2045).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from autoregistry.cluster.addresses import Networks, collisions, far_place
from autoregistry.cluster.config_map import announce, withdraw
from autoregistry.cluster.mirror_config import Mirror, plain
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.engine.containers import Container
from autoregistry.errors import AutoregistryError, ClusterRefused, DockerRefused


class Containers(Protocol):
    """What joining a network needs of the engine."""

    def list(self, *labels: str) -> list[Container]: ...
    def connect(
        self, network: str, container: str, body: Mapping[str, object] | None = None
    ) -> bool: ...
    def disconnect(self, network: str, container: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class AttachResult:
    """What became of a cluster."""

    nodes: list[Node]
    """Those that pull through us."""
    for_now: list[Node] = field(default_factory=list)
    """Those of them that do so only until they start again."""
    replaced: str = ""
    """The registry that the cluster named before to Tilt and others; empty where that was none, or ours."""


class Attachment:
    """Attaches clusters to one registry: `members` are its containers, by name."""

    def __init__(
        self,
        containers: Containers,
        networks: Networks,
        nodes: Nodes,
        files: MirrorFiles,
        mirror: Mirror,
        members: tuple[str, ...],
    ) -> None:
        self._containers = containers
        self._networks = networks
        self._nodes = nodes
        self._files = files
        self._mirror = mirror
        self._members = members

    def running(self, cluster: str) -> list[Node]:
        """The nodes that run. Raises ClusterRefused where none does."""
        running = [node for node in self._nodes.of(cluster) if node.is_running]
        if not running:
            raise ClusterRefused(f"cluster {cluster} does not run", f"k3d cluster start {cluster}")
        return running

    def attach(self, cluster: str) -> AttachResult:
        """The cluster's nodes pull through us from their next pull on.

        Raises ClusterRefused where a node's k3s is too old to be told while it runs.
        """
        running = self.running(cluster)
        for node in running:
            if not self._files.is_read_at_every_pull(node):
                raise ClusterRefused(
                    f"the k3s of {node.name} ({node.image}) reads its mirrors only when it starts",
                    f"autoregistry cluster attach {cluster} --restart",
                )
        self.join(cluster)
        for_now = [node for node in running if not self._files.attach(node, self._mirror)]
        return AttachResult(running, for_now, announce(self._nodes, cluster, self._mirror))

    def attach_at_next_start(self, cluster: str) -> AttachResult | None:
        """Prepare a cluster whose k3s reads its mirrors only when it starts; None where it needs no restart."""
        running = self.running(cluster)
        if all(self._files.is_read_at_every_pull(node) for node in running):
            return None
        self.join(cluster)
        for node in running:
            self._files.attach_at_next_start(node, self._mirror)
        return AttachResult(running)

    def rejoin(self) -> list[str]:
        """Join the networks of clusters that are told to pull from us and that we are not on; those networks.

        After `down` and `up`, and for a cluster that was made with a generated registries.yaml.
        """
        ours = [c for c in self._containers.list("app=k3d") if c.name in self._members]
        shared = [c.joined if c.is_running else c.networks.keys() for c in ours]
        found: list[str] = []
        for node in self._nodes.all() if ours else ():
            is_joined = node.network in found or all(
                node.network in networks for networks in shared
            )
            if node.is_running and not is_joined and self._is_told(node):
                with suppress(AutoregistryError):  # the next start of a node is the next try
                    self.join(node.cluster)
                    found.append(node.network)
        return found

    def _is_told(self, node: Node) -> bool:
        with suppress(AutoregistryError):  # it has ended since it was listed, or hangs
            known = self._files.known(node).items()
            return any(
                name in self._mirror.names and self._mirror.endpoints[0] in plain(ends)
                for name, ends in known
            )
        return False

    def join(self, cluster: str) -> None:
        """Put the registry on the cluster's network."""
        for network in sorted({node.network for node in self._nodes.of(cluster)}):
            for member in self._members:
                self._join(network, member)

    def _join(self, network: str, member: str) -> None:
        everybody = self._containers.list("app=k3d")
        if any(
            member in (collision.owner, collision.holder) and collision.network == network
            for collision in collisions(everybody)
        ):
            with suppress(
                DockerRefused
            ):  # a refused `connect` left it half there: the next one mends that
                self._containers.disconnect(network, member)
        try:
            place = far_place(self._networks, network, member, everybody)
            self._containers.connect(network, member, place)
        except DockerRefused:
            # Only a network with a subnet of its own lets one choose (moby, validateIPAddress).
            self._containers.connect(network, member)

    def detach(self, cluster: str) -> list[Node]:
        """Take back what `attach` or `create` did, for good: a node that starts again stays detached.

        Those for which their registries.yaml has a road that counts from their next start on only. Raises
        ClusterRefused where a node does not run: what is in it cannot be taken out.
        """
        nodes = self.running(cluster)
        for node in self._nodes.of(cluster):
            if node.away:
                mend = (
                    f"docker unpause {node.name}"
                    if node.state == "paused"
                    else f"k3d cluster start {cluster}"
                )
                raise ClusterRefused(f"{node.name}: {node.away}, and keeps what it was told", mend)
        at_next_start = [node for node in nodes if not self._files.detach(node, self._mirror)]
        if any(node.is_server for node in nodes):
            withdraw(self._nodes, cluster)
        self.leave(cluster)
        return at_next_start

    def leave(self, cluster: str) -> None:
        """Take the registry off the cluster's network, unless another cluster is on it as well."""
        nodes = self._nodes.all()
        others = {node.network for node in nodes if node.cluster != cluster}
        for network in {node.network for node in nodes if node.cluster == cluster} - others:
            for member in self._members:
                with suppress(DockerRefused):  # it is not on it
                    self._containers.disconnect(network, member)
