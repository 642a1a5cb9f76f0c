"""Attaching running clusters to the registry, and detaching them, without a restart."""

from __future__ import annotations

import time
from contextlib import suppress

from autoregistry.cluster.addresses import collisions, endpoint_config
from autoregistry.cluster.config_map import announce, withdraw
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import CLUSTER_LABEL, Node, Nodes
from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.networks import Networks
from autoregistry.errors import AutoregistryError, ClusterRefused, DockerRefused

# The k3s that k3d 5.8 starts by default.
K3S_IMAGE = "rancher/k3s:v1.31.5-k3s1"
# A user who deletes a cluster may create it again at once, and k3d then uses the network that it finds.
NETWORK_GRACE_SECONDS = 3.0


class Attachment:
    """Attaches clusters to one registry. `members` are the names of its containers."""

    def __init__(
        self, containers: Containers, networks: Networks, mirror: Mirror, members: tuple[str, ...]
    ) -> None:
        self._containers = containers
        self._networks = networks
        self._nodes = Nodes(containers)
        self._files = MirrorFiles(containers)
        self._mirror = mirror
        self._members = members

    def _running_nodes(self, cluster: str) -> list[Node]:
        """Return the nodes that run. Raises ClusterRefused if there are none."""
        if running := [node for node in self._nodes.of(cluster) if node.is_running]:
            return running
        start = f"k3d cluster start {cluster}"
        raise ClusterRefused(f"cluster {cluster} is not running", start)

    def _require_attachable(self, nodes: list[Node]) -> None:
        """Raise ClusterRefused if a node's containerd does not read hosts.toml, or reads one that is the user's."""
        for node in nodes:
            if not self._files.is_supported(node):
                raise ClusterRefused(
                    f"{node.name} runs a k3s older than January 2024 ({node.image}), which is not supported",
                    f"autoregistry cluster create NAME -- --image {K3S_IMAGE}",
                )
            if path := self._files.foreign_file(node, self._mirror):
                raise ClusterRefused(
                    f"{path} in {node.name} leads to another registry, and autoregistry did not write it",
                    f"docker exec {node.name} mv {path} {path}.old",
                )

    def attach(self, cluster: str) -> list[str]:
        """Make the cluster's nodes pull through us from their next pull on. Raises ClusterRefused.

        Returns the result, and remarks for the user.
        """
        running = self._running_nodes(cluster)
        self._require_attachable(running)
        self.join(cluster)
        result = [f"attached: {', '.join(node.name for node in running)}"]
        for node in running:
            result += self._files.attach(node, self._mirror)
        if replaced := announce(self._nodes, cluster, self._mirror):
            result.append(f"Tilt and skaffold used {replaced} as registry; `detach` restores that")
        return result

    def rejoin(self) -> list[str]:
        """Join the networks that we are not on and whose nodes pull from us; return those networks.

        This is needed after `down` and `up`, and for a cluster that was created with a generated registries.yaml.
        """
        ours = [c for c in self._containers.list("app=k3d") if c.name in self._members]
        shared = [c.joined if c.is_running else c.networks.keys() for c in ours]
        joined: list[str] = []
        for node in self._nodes.all() if ours else ():
            network = node.network
            is_joined = network in joined or all(network in networks for networks in shared)
            if node.is_running and not is_joined and self._pulls_from_us(node):
                with suppress(AutoregistryError):  # tried again when a node starts
                    self.join(node.cluster)
                    joined.append(network)
        return joined

    def _pulls_from_us(self, node: Node) -> bool:
        with suppress(AutoregistryError):  # it has stopped since it was listed, or hangs
            mirrors = self._files.mirrors(node)
            ours = self._mirror.endpoints[0]
            return any(ours in mirrors.get(name, ()) for name in self._mirror.names.all)
        return False

    def join(self, cluster: str) -> None:
        """Connect the registry to the cluster's network."""
        for network in sorted({node.network for node in self._nodes.of(cluster)}):
            for member in self._members:
                self._join(network, member)

    def _join(self, network: str, member: str) -> None:
        containers = self._containers.list("app=k3d")
        conflicts = (c for c in collisions(containers) if member in (c.owner, c.holder))
        if any(conflict.network == network for conflict in conflicts):
            # A refused `connect` may have left it half joined, which the next one repairs.
            with suppress(DockerRefused):
                self._containers.disconnect(network, member)
        try:
            config = endpoint_config(self._networks, network, member, containers)
            self._containers.connect(network, member, config)
        except DockerRefused:
            # An address can be chosen only on a network with a configured subnet (moby, validateIPAddress).
            self._containers.connect(network, member)

    def detach(self, cluster: str) -> list[str]:
        """Undo what `attach` or `create` did, for good: a node that starts again stays detached.

        Returns remarks for the user about single nodes. Raises ClusterRefused if a node does not run, because its
        files cannot be changed then.
        """
        running = self._running_nodes(cluster)
        for node in self._nodes.of(cluster):
            if cause := node.unavailable_because:
                start = f"k3d cluster start {cluster}"
                fix = f"docker unpause {node.name}" if node.state == "paused" else start
                raise ClusterRefused(f"{node.name} cannot be detached: {cause}", fix)
        remarks = [text for node in running for text in self._files.detach(node, self._mirror)]
        if any(node.role == "server" for node in running):
            withdraw(self._nodes, cluster)
        self.leave(cluster)
        return remarks

    def leave(self, cluster: str) -> None:
        """Disconnect the registry from the cluster's network, unless another cluster uses that network as well."""
        nodes = self._nodes.all()
        others = {node.network for node in nodes if node.cluster != cluster}
        for network in {node.network for node in nodes if node.cluster == cluster} - others:
            for member in self._members:
                with suppress(DockerRefused):  # it is not connected
                    self._containers.disconnect(network, member)


def leave_deleted_clusters(
    containers: Containers,
    networks: Networks,
    members: tuple[str, ...],
    grace_seconds: float = NETWORK_GRACE_SECONDS,
) -> list[str]:
    """Disconnect our containers from every network of k3d that no cluster uses any more; return those networks.

    `k3d cluster delete` does this only if it recognises Docker's reason for not removing the network. It does not
    recognise the message of Docker 28 (k3d pkg/runtimes/docker/network.go).
    """
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
