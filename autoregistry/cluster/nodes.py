"""The nodes of k3d clusters: their images, pulls and pods.

Everything is done with `docker exec` in the nodes; the user's kube contexts are never used.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass

from autoregistry.cluster.mirror_config import hosts_path, parse_hosts_toml
from autoregistry.cluster.pods import ContainerUse, parse_container_uses
from autoregistry.engine.containers import Container, Containers, ExecResult
from autoregistry.errors import ClusterRefused, DockerRefused, DockerUnreachable

CLUSTER_LABEL = "k3d.cluster"
ROLE_LABEL = "k3d.role"
NETWORK_LABEL = "k3d.cluster.network"
ROLES = ("server", "agent")
PULL_SECONDS = 600.0
_QUOTED = re.compile(r' (?:err|msg)="(.*?)"(?: \w+=|$)')
_CAUSE_PREFIX = re.compile(
    r"^(?:pulling image: |rpc error: code = \w+ desc = "
    r'|failed to (?:pull and unpack image|resolve reference) "[^"]*": )+'
)


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """A server or agent of a k3d cluster, which is a container."""

    cluster: str
    name: str
    role: str
    network: str
    is_running: bool
    image: str
    state: str = "running"
    """The state of the container in Docker's words."""

    @property
    def unavailable_because(self) -> str:
        """The reason why nothing can be run in it; empty if it is running."""
        if self.is_running:
            return ""
        return "it is paused" if self.state == "paused" else "it is not running"


class Nodes:
    """The nodes of all k3d clusters of one Docker daemon."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def all(self) -> list[Node]:
        """Return every server and agent, running or not."""
        containers = self._containers.list("app=k3d", CLUSTER_LABEL)
        return sorted(_node(c) for c in containers if c.labels.get(ROLE_LABEL) in ROLES)

    def of(self, cluster: str) -> list[Node]:
        """Return the nodes of a cluster. Raises ClusterRefused if there is no cluster of that name."""
        every_node = self.all()
        if nodes := [node for node in every_node if node.cluster == cluster]:
            return nodes
        names = ", ".join(sorted({node.cluster for node in every_node})) or "none"
        raise ClusterRefused(
            f"there is no k3d cluster {cluster} (existing clusters: {names})",
            f"autoregistry cluster create {cluster}",
        )

    def endpoints(self, node: Node, name: str) -> list[str]:
        """Return the URLs from which the node pulls `name/...`; empty if it has no mirror file for that name.

        Raises ClusterRefused if the node hangs.
        """
        try:
            ran = self._exec(node, 10, "cat", hosts_path(name))
        except DockerRefused:
            return []  # it has stopped since it was listed
        return parse_hosts_toml(ran.stdout) if ran.code == 0 else []

    def attached(self, name: str) -> list[Node]:
        """Return the running nodes that have a mirror for the registry of this name; nodes that hang are left out."""
        nodes = []
        for node in self.all():
            with suppress(ClusterRefused):
                if node.is_running and self.endpoints(node, name):
                    nodes.append(node)
        return nodes

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        """Run kubectl in a running server and return its output. Raises ClusterRefused."""
        servers = [
            node.name for node in self.of(cluster) if node.role == "server" and node.is_running
        ]
        if not servers:
            raise ClusterRefused(
                f"no server of cluster {cluster} is running", f"k3d cluster start {cluster}"
            )
        ran = self._containers.exec(servers[0], ["kubectl", *words], input=input, timeout=60)
        if ran.code != 0:
            cause = _last_line(ran.stderr)
            raise ClusterRefused(f"kubectl {words[0]} failed in {servers[0]}: {cause}")
        return ran.stdout

    def container_uses(self, cluster: str) -> list[ContainerUse]:
        """Return the images that the cluster's pods use or wait for. Raises ClusterRefused."""
        words = ("get", "pods,replicasets,jobs", "--all-namespaces", "--output=json")
        return parse_container_uses(json.loads(self.kubectl(cluster, *words)))

    def images_on(self, node: Node) -> dict[str, frozenset[str]]:
        """Return the references of the node's images, each with the digests that the node has of its repository.

        Raises ClusterRefused, DockerRefused.
        """
        ran = self._exec(node, 30, "crictl", "images", "--output=json")
        if ran.code != 0:
            raise DockerRefused(f"{node.name} cannot list its images: {_cause(ran.stderr)}")
        return parse_images(json.loads(ran.stdout))

    def pull(self, node: Node, reference: str) -> None:
        """Make the node pull, even if it has a copy. Raises ClusterRefused with containerd's cause."""
        ran = self._exec(node, PULL_SECONDS, "crictl", "pull", reference)
        if ran.code != 0:
            raise ClusterRefused(f"{node.name} cannot pull {reference}: {_cause(ran.stderr)}")

    def _exec(self, node: Node, seconds: float, *argv: str) -> ExecResult:
        """Run a command in the node. Raises ClusterRefused if the node hangs, DockerRefused if it does not run."""
        try:
            return self._containers.exec(node.name, argv, timeout=seconds)
        except DockerUnreachable as exc:
            raise ClusterRefused(f"{node.name} did not answer {' '.join(argv[:2])}") from exc


def parse_images(
    listing: dict[str, list[dict[str, list[str] | None]]],
) -> dict[str, frozenset[str]]:
    """Return the digests of each reference in the output of `crictl images -o json`."""
    images: dict[str, frozenset[str]] = {}
    for image in listing.get("images") or []:
        digests = [entry.rpartition("@") for entry in image.get("repoDigests") or []]
        for tag in image.get("repoTags") or []:
            repository = tag.rpartition(":")[0]
            images[tag] = frozenset(digest for name, _, digest in digests if name == repository)
    return images


def _node(c: Container) -> Node:
    cluster, role = c.labels[CLUSTER_LABEL], c.labels[ROLE_LABEL]
    network = c.labels.get(NETWORK_LABEL) or f"k3d-{cluster}"
    return Node(cluster, c.name, role, network, c.is_running, c.image, c.state)


def _last_line(stderr: str) -> str:
    return (stderr.strip().splitlines() or ["no error message"])[-1]


def _cause(stderr: str) -> str:
    """Return the cause in crictl's last line, without the words that precede every cause."""
    line = _last_line(stderr)
    quoted = _QUOTED.search(line)
    text = quoted[1].replace('\\"', '"') if quoted else line
    return _CAUSE_PREFIX.sub("", text)[-300:]
