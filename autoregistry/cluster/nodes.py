"""Inside the nodes of k3d clusters, by `docker exec` alone: no kube context of the user's is ever used."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass

from autoregistry.cluster.mirror_config import hosts_path, parse_hosts_toml
from autoregistry.cluster.pods import ContainerUse, uses
from autoregistry.engine.containers import Container, Containers, ExecResult
from autoregistry.errors import ClusterRefused, DockerRefused, DockerUnreachable

CLUSTER_LABEL = "k3d.cluster"
ROLE_LABEL = "k3d.role"
NETWORK_LABEL = "k3d.cluster.network"
ROLES = ("server", "agent")
PULL_SECONDS = 600.0
_QUOTED = re.compile(r' (?:err|msg)="(.*?)"(?: \w+=|$)')
_BEFORE_THE_CAUSE = re.compile(
    r"^(?:pulling image: |rpc error: code = \w+ desc = "
    r'|failed to (?:pull and unpack image|resolve reference) "[^"]*": )+'
)


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A server or agent of a k3d cluster: the container it is."""

    cluster: str
    name: str
    role: str
    network: str
    is_running: bool
    image: str
    state: str = "running"
    """Docker's word."""

    @property
    def away(self) -> str:
        """Why it cannot be asked; empty where it can."""
        if self.is_running:
            return ""
        return "it is paused" if self.state == "paused" else "it does not run"

    @property
    def is_server(self) -> bool:
        return self.role == "server"


class Nodes:
    """The nodes of all k3d clusters of one Docker daemon."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def all(self) -> list[Node]:
        """Every server and agent, running or not."""
        found = (_node(container) for container in self._containers.list("app=k3d", CLUSTER_LABEL))
        return sorted(node for node in found if node is not None)

    def of(self, cluster: str) -> list[Node]:
        """A cluster's nodes. Raises ClusterRefused where there is none of that name."""
        everything = self.all()
        if found := [node for node in everything if node.cluster == cluster]:
            return found
        names = ", ".join(sorted({node.cluster for node in everything})) or "none"
        raise ClusterRefused(
            f"there is no k3d cluster {cluster} (there is: {names})",
            f"autoregistry cluster create {cluster}",
        )

    def endpoints(self, node: Node, name: str) -> list[str]:
        """Where this node's containerd pulls `name/...` from; empty where it has no file for it.

        Raises ClusterRefused, by the node's name, where it hangs.
        """
        try:
            ran = self._containers.exec(node.name, ["cat", hosts_path(name)], timeout=10)
        except DockerRefused:
            return []  # it has ended since it was listed
        except DockerUnreachable as exc:
            raise ClusterRefused(f"{node.name} did not say where it pulls from") from exc
        return parse_hosts_toml(ran.stdout) if ran.code == 0 else []

    def attached(self, name: str) -> list[Node]:
        """The running nodes that have a file for images of this name."""
        found = []
        for node in self.all():
            with suppress(ClusterRefused):  # it hangs: the others are asked all the same
                if node.is_running and self.endpoints(node, name):
                    found.append(node)
        return found

    def server(self, cluster: str) -> Node:
        """A running server, where kubectl is. Raises ClusterRefused."""
        for node in self.of(cluster):
            if node.is_server and node.is_running:
                return node
        raise ClusterRefused(f"no server of cluster {cluster} runs", f"k3d cluster start {cluster}")

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        """Run kubectl in a server; its output. Raises ClusterRefused."""
        server = self.server(cluster)
        ran = self._containers.exec(server.name, ["kubectl", *words], input=input, timeout=60)
        if ran.code != 0:
            cause = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ClusterRefused(f"kubectl {words[0]} failed in {server.name}: {cause}")
        return ran.stdout

    def uses(self, cluster: str) -> list[ContainerUse]:
        """What the pods of a cluster use, and what they wait for."""
        listed = self.kubectl(
            cluster, "get", "pods,replicasets,jobs", "--all-namespaces", "--output=json"
        )
        return uses(json.loads(listed))

    def held(self, node: Node) -> dict[str, frozenset[str]]:
        """The references this node holds images under, each with the digests it has of that repository."""
        ran = self._crictl(node, 30, "images", "--output=json")
        if ran.code != 0:
            raise DockerRefused(f"{node.name} cannot list its images: {_cause(ran.stderr)}")
        return held(json.loads(ran.stdout))

    def pull(self, node: Node, reference: str) -> None:
        """Have this node pull, though it holds a copy. Raises ClusterRefused with containerd's cause."""
        ran = self._crictl(node, PULL_SECONDS, "pull", reference)
        if ran.code != 0:
            raise ClusterRefused(f"{node.name} cannot pull {reference}: {_cause(ran.stderr)}")

    def _crictl(self, node: Node, seconds: float, *words: str) -> ExecResult:
        """Raises ClusterRefused, by the node's name, where it hangs."""
        try:
            return self._containers.exec(node.name, ["crictl", *words], timeout=seconds)
        except DockerUnreachable as exc:
            raise ClusterRefused(f"{node.name} did not answer crictl {words[0]}") from exc


def held(listed: dict[str, list[dict[str, list[str] | None]]]) -> dict[str, frozenset[str]]:
    """What `crictl images -o json` says, by reference."""
    found: dict[str, frozenset[str]] = {}
    for image in listed.get("images") or []:
        digests = [entry.rpartition("@") for entry in image.get("repoDigests") or []]
        for tag in image.get("repoTags") or []:
            repository = tag.rpartition(":")[0]
            found[tag] = frozenset(digest for name, _, digest in digests if name == repository)
    return found


def _node(container: Container) -> Node | None:
    labels = container.labels
    role = labels.get(ROLE_LABEL, "")
    if role not in ROLES:
        return None
    cluster = labels.get(CLUSTER_LABEL, "")
    network = labels.get(NETWORK_LABEL) or f"k3d-{cluster}"
    return Node(
        cluster,
        container.name,
        role,
        network,
        container.is_running,
        container.image,
        container.state,
    )


def _cause(stderr: str) -> str:
    """The cause in crictl's last line, without what it says before every cause."""
    lines = stderr.strip().splitlines() or ["it said nothing"]
    said = _QUOTED.search(lines[-1])
    text = said[1].replace('\\"', '"') if said else lines[-1]
    return _BEFORE_THE_CAUSE.sub("", text)[-300:]
