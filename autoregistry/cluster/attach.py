"""Attaching a running cluster to the registry, and letting go of it again; no restart of anything.

On the cluster's network we take addresses from the far end, where nodes never look for theirs: a node that comes
back after a restart must find its own address free (k3d-io/k3d#1637, kind#2045).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from autoregistry.cluster.files import CONFIG_MAP, CONFIG_MAP_NAMESPACE, Mirror
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.errors import ClusterRefused, DockerRefused


class Containers(Protocol):
    """What joining a network needs of the engine."""

    def connect(
        self, network: str, container: str, body: Mapping[str, object] | None = None
    ) -> bool: ...
    def disconnect(self, network: str, container: str) -> bool: ...


class Networks(Protocol):
    """What choosing an address needs of the engine."""

    def subnet(self, network: str) -> str | None: ...
    def addresses(self, network: str) -> frozenset[str]: ...


class Attachment:
    """Attaches clusters to one registry: `members` are its containers, by name."""

    def __init__(
        self,
        containers: Containers,
        networks: Networks,
        nodes: Nodes,
        mirror: Mirror,
        members: tuple[str, ...],
    ) -> None:
        self._containers = containers
        self._networks = networks
        self._nodes = nodes
        self._mirror = mirror
        self._members = members

    def attach(self, cluster: str) -> list[Node]:
        """The cluster's nodes pull through us from their next pull on; those that were attached.

        Raises ClusterRefused where a node's k3s is too old to be told while it runs.
        """
        running = [node for node in self._nodes.of(cluster) if node.is_running]
        if not running:
            raise ClusterRefused(f"cluster {cluster} does not run", f"k3d cluster start {cluster}")
        for node in running:
            if not self._nodes.reads_hosts_toml(node):
                raise ClusterRefused(
                    f"the k3s of {node.name} ({node.image}) reads its mirrors only when it starts",
                    "autoregistry generate registries -o registries.yaml, then for each node: docker cp"
                    f" registries.yaml {node.name}:/etc/rancher/k3s/ and k3d cluster restart {cluster}",
                )
        self.join(cluster)
        for node in running:
            self._nodes.attach(node, self._mirror)
        self._nodes.announce(cluster, self._mirror)
        return running

    def join(self, cluster: str) -> None:
        """Put the registry on the cluster's network."""
        for network in sorted({node.network for node in self._nodes.of(cluster)}):
            for member in self._members:
                self._join(network, member)

    def _join(self, network: str, member: str) -> None:
        try:
            address = {"IPAMConfig": {"IPv4Address": self._far_address(network)}}
            self._containers.connect(network, member, address)
        except DockerRefused:
            # Only a network with a subnet of its own lets one choose (moby, validateIPAddress). What Docker refused
            # is half done: the container says that it is connected.
            with suppress(DockerRefused):
                self._containers.disconnect(network, member)
            self._containers.connect(network, member)

    def _far_address(self, network: str) -> str:
        """The last free address; empty, which is Docker's choice, where the network has no IPv4."""
        subnet = self._networks.subnet(network)
        if subnet is None:
            return ""
        block = ipaddress.ip_network(subnet)
        taken = self._networks.addresses(network)
        numbers = range(int(block.broadcast_address) - 2, int(block.network_address), -1)
        addresses = (str(ipaddress.ip_address(n)) for n in numbers)
        return next((a for a in addresses if a not in taken), "")

    def detach(self, cluster: str) -> None:
        """Take back what `attach` did. What k3d made the cluster with stays as it is."""
        nodes = self._nodes.of(cluster)
        for node in nodes:
            if node.is_running:
                self._nodes.detach(node, self._mirror.names)
        if any(node.is_running and node.is_server for node in nodes):
            self._nodes.kubectl(
                cluster,
                *("delete", "configmap", "--namespace", CONFIG_MAP_NAMESPACE, "--ignore-not-found"),
                *("--selector", "app.kubernetes.io/managed-by=autoregistry"),
                *("--field-selector", f"metadata.name={CONFIG_MAP}"),
            )
        self.leave(cluster)

    def leave(self, cluster: str) -> None:
        """Take the registry off the cluster's network."""
        for network in {node.network for node in self._nodes.of(cluster)}:
            for member in self._members:
                with suppress(DockerRefused):  # it is not on it
                    self._containers.disconnect(network, member)
