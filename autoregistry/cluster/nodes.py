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
_NO_MESSAGE = "no error message"
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

    @property
    def is_server(self) -> bool:
        return self.role == "server"


class Nodes:
    """The nodes of all k3d clusters of one Docker daemon."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def all(self) -> list[Node]:
        """Return every server and agent, running or not."""
        nodes = map(_node, self._containers.list("app=k3d", CLUSTER_LABEL))
        return sorted(node for node in nodes if node is not None)

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
            ran = self._containers.exec(node.name, ["cat", hosts_path(name)], timeout=10)
        except DockerRefused:
            return []  # it has stopped since it was listed
        except DockerUnreachable as exc:
            raise ClusterRefused(f"{node.name} did not answer when its mirrors were read") from exc
        return parse_hosts_toml(ran.stdout) if ran.code == 0 else []

    def attached(self, name: str) -> list[Node]:
        """Return the running nodes that have a mirror for the registry of this name; nodes that hang are left out."""
        nodes = []
        for node in self.all():
            with suppress(ClusterRefused):
                if node.is_running and self.endpoints(node, name):
                    nodes.append(node)
        return nodes

    def server(self, cluster: str) -> Node:
        """Return a running server, which has kubectl. Raises ClusterRefused."""
        for node in self.of(cluster):
            if node.is_server and node.is_running:
                return node
        raise ClusterRefused(
            f"no server of cluster {cluster} is running", f"k3d cluster start {cluster}"
        )

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        """Run kubectl in a server and return its output. Raises ClusterRefused."""
        server = self.server(cluster)
        ran = self._containers.exec(server.name, ["kubectl", *words], input=input, timeout=60)
        if ran.code != 0:
            cause = (ran.stderr.strip().splitlines() or [_NO_MESSAGE])[-1]
            raise ClusterRefused(f"kubectl {words[0]} failed in {server.name}: {cause}")
        return ran.stdout

    def container_uses(self, cluster: str) -> list[ContainerUse]:
        """Return the images that the cluster's pods use or wait for. Raises ClusterRefused."""
        listing = self.kubectl(
            cluster, "get", "pods,replicasets,jobs", "--all-namespaces", "--output=json"
        )
        return parse_container_uses(json.loads(listing))

    def images_on(self, node: Node) -> dict[str, frozenset[str]]:
        """Return the references of the node's images, each with the digests that the node has of its repository.

        Raises ClusterRefused, DockerRefused.
        """
        ran = self._crictl(node, 30, "images", "--output=json")
        if ran.code != 0:
            raise DockerRefused(f"{node.name} cannot list its images: {_cause(ran.stderr)}")
        return parse_images(json.loads(ran.stdout))

    def pull(self, node: Node, reference: str) -> None:
        """Make the node pull, even if it has a copy. Raises ClusterRefused with containerd's cause."""
        ran = self._crictl(node, PULL_SECONDS, "pull", reference)
        if ran.code != 0:
            raise ClusterRefused(f"{node.name} cannot pull {reference}: {_cause(ran.stderr)}")

    def _crictl(self, node: Node, seconds: float, *words: str) -> ExecResult:
        """Run crictl in the node. Raises ClusterRefused if the node hangs."""
        try:
            return self._containers.exec(node.name, ["crictl", *words], timeout=seconds)
        except DockerUnreachable as exc:
            raise ClusterRefused(f"{node.name} did not answer crictl {words[0]}") from exc


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
    """Return the cause in crictl's last line, without the words that precede every cause."""
    lines = stderr.strip().splitlines() or [_NO_MESSAGE]
    quoted = _QUOTED.search(lines[-1])
    text = quoted[1].replace('\\"', '"') if quoted else lines[-1]
    return _CAUSE_PREFIX.sub("", text)[-300:]
