"""The nodes of k3d clusters in memory: their images, their pods, and the pulls they were asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.cluster.pods import ContainerUse, Workload
from autoregistry.errors import ClusterRefused, DockerRefused


def node(name: str, cluster: str = "dev") -> Node:
    return Node(cluster, name, "server", f"k3d-{cluster}", is_running=True, image="k3s")


def waiting(node_name: str, reference: str) -> ContainerUse:
    workload = Workload("default", "Deployment", "app")
    return ContainerUse(
        workload, "app-1", node_name, reference, "", "IfNotPresent", "ImagePullBackOff"
    )


@dataclass
class FakeNodes(Nodes):
    """Clusters that the proxy can use in place of the real ones."""

    images: dict[Node, dict[str, frozenset[str]]] = field(default_factory=dict)
    pods: list[ContainerUse] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """The reason why a node of that name cannot pull."""
    hung: dict[str, threading.Event] = field(default_factory=dict)
    """The names of nodes whose pulls hang until the event is set."""
    kubectl_calls: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    """(cluster, arguments of kubectl, input)"""
    pulled: list[tuple[str, str]] = field(default_factory=list)
    others: list[Node] = field(default_factory=list)
    """Nodes that are not attached."""
    silent: set[str] = field(default_factory=set)
    """Names of nodes that cannot list their images."""
    mute: set[str] = field(default_factory=set)
    """Names of nodes that hang when their endpoints are read."""
    garbled: set[str] = field(default_factory=set)
    """Names of nodes that print half a line instead of their images."""
    before_endpoints: Callable[[str], None] = lambda _: None
    """Called with the name of a node whose endpoints are read."""
    failures: int = 0
    """The number of times that Docker fails to list the nodes."""

    def all(self) -> list[Node]:
        if self.failures:
            self.failures -= 1
            raise DockerRefused("Docker does not answer in time")
        return sorted([*self.images, *self.others])

    def attached(self, name: str) -> list[Node]:
        return sorted(self.images)

    def endpoints(self, node: Node, name: str) -> list[str]:
        self.before_endpoints(node.name)
        if node.name in self.mute:
            raise ClusterRefused(f"{node.name} did not answer when its mirrors were read")
        return ["http://autoregistry:5000/v2"] if node in self.images else []

    def images_on(self, node: Node) -> dict[str, frozenset[str]]:
        if node.name in self.silent:
            raise DockerRefused(f"{node.name} cannot list its images: deadline exceeded")
        if node.name in self.garbled:
            json.loads("")
        return self.images[node]

    def container_uses(self, cluster: str) -> list[ContainerUse]:
        return self.pods

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        self.kubectl_calls.append((cluster, words, input or ""))
        return ""

    def pull(self, node: Node, reference: str) -> None:
        if hung := self.hung.get(node.name):
            hung.wait(20)
        if cause := self.broken.get(node.name):
            raise ClusterRefused(cause)
        self.pulled.append((node.name, reference))
