"""The nodes of k3d clusters in memory: what they hold, what their pods wait for, what they were made to pull."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoregistry.cluster.nodes import Node
from autoregistry.cluster.pods import Use, Workload
from autoregistry.errors import ClusterRefused


def node(name: str, cluster: str = "dev") -> Node:
    return Node(cluster, name, "server", f"k3d-{cluster}", is_running=True, image="k3s")


def waiting(node_name: str, reference: str) -> Use:
    workload = Workload("default", "Deployment", "app")
    return Use(workload, "app-1", node_name, reference, "", "IfNotPresent", "ImagePullBackOff")


@dataclass
class FakeNodes:
    """Implements what the proxy wants of the clusters (`proxy/refresh.py`)."""

    images: dict[Node, dict[str, frozenset[str]]] = field(default_factory=dict)
    pods: list[Use] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """Why a node of that name cannot pull."""
    said: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    """(cluster, words of kubectl, its input)"""
    pulled: list[tuple[str, str]] = field(default_factory=list)

    def attached(self, name: str) -> list[Node]:
        return sorted(self.images)

    def held(self, node: Node) -> dict[str, frozenset[str]]:
        return self.images[node]

    def uses(self, cluster: str) -> list[Use]:
        return self.pods

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        self.said.append((cluster, words, input or ""))
        return ""

    def pull(self, node: Node, reference: str) -> None:
        if cause := self.broken.get(node.name):
            raise ClusterRefused(cause)
        self.pulled.append((node.name, reference))
