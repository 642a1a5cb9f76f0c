"""The stack, the nodes and the clusters of one Docker daemon, as the commands use them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from autoregistry.cli import docker
from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror, Route
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.cluster.workloads import by_cluster
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.networks import Networks
from autoregistry.errors import AutoregistryError, SettingInvalid
from autoregistry.names import RegistryNames
from autoregistry.settings import CHECK
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.model import BACKEND, PROXY


@dataclass(frozen=True, slots=True)
class Cluster:
    """A k3d cluster, and how it pulls."""

    name: str
    nodes: list[Node]
    files: dict[str, dict[str, list[str]]]
    """The mirrors of each running node, by its name."""
    unreachable: dict[str, str]
    """Running nodes that did not answer, such as one that has just stopped, and the cause."""
    mirror: Mirror | None
    """The configuration by which its nodes reach us; None if they do not."""
    is_joined: bool
    """The registry is on the cluster's network."""
    own_name: str
    """The name of the registry of `up`."""

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.is_running]

    @property
    def attached(self) -> list[Node]:
        """The nodes that pull through us."""
        name = self.mirror.name if self.mirror else None
        return [node for node in self.nodes if name in self.files.get(node.name, ())]

    @property
    def is_by_host(self) -> bool:
        """True if the cluster is attached by the host's address."""
        return self.mirror is not None and self.mirror.route is Route.HOST

    @property
    def is_unreachable(self) -> bool:
        """True if the cluster is attached by the containers' network, and the registry is not on it."""
        return self.mirror is not None and not self.is_by_host and not self.is_joined

    @property
    def via(self) -> str:
        """The route in words."""
        if self.mirror is None:
            return "not attached"
        if self.is_by_host:
            name = self.mirror.name
            return "the host's address" + (f", as {name}" if name != self.own_name else "")
        return "Docker's network" + (", which the registry is not on" if not self.is_joined else "")

    def to_json(self) -> dict[str, object]:
        """Return what `cluster list --json` and `status --json` print."""
        lists = {"nodes": self.nodes, "running": self.running, "attached": self.attached}
        counts = {key: len(nodes) for key, nodes in lists.items()}
        return {"name": self.name, **counts, "via": self.via}


@dataclass(frozen=True, slots=True)
class Environment:
    """One Docker daemon with its stack and its clusters."""

    daemon: Daemon
    containers: Containers
    nodes: Nodes

    @classmethod
    def current(cls) -> Environment:
        """Return the environment of the daemon that Docker's own tools would use."""
        daemon = docker.daemon()
        containers = Containers(daemon)
        return cls(daemon, containers, Nodes(containers))

    def stack(self) -> CurrentStack:
        """Ask Docker for the stack of `up`."""
        return find_stack(self.containers)

    def mirror(self, route: Route = Route.CONTAINER, port: int | None = None) -> Mirror:
        """Return the configuration for nodes that use this route. `port` is that of `serve` on the host."""
        stack_port = self.stack().options.port
        if route is Route.HOST:
            return Mirror.of(port or stack_port, None)
        if port not in (None, stack_port):
            raise SettingInvalid("--port is for --via host", f"autoregistry up --port {port}")
        return Mirror.of(stack_port, PROXY)

    def attachment(self, mirror: Mirror) -> Attachment:
        """Return what attaches clusters in this way."""
        members = () if mirror.route is Route.HOST else (BACKEND, PROXY)
        return Attachment(self.containers, Networks(self.daemon), mirror, members)

    def clusters(self) -> list[Cluster]:
        """Return every k3d cluster of this Docker, attached or not."""
        ours, networks = self.mirror(), self.containers.networks_of(PROXY)
        return [
            self._cluster(name, nodes, ours, is_joined=nodes[0].network in networks)
            for name, nodes in by_cluster(self.nodes.all()).items()
        ]

    def _cluster(self, name: str, nodes: list[Node], ours: Mirror, *, is_joined: bool) -> Cluster:
        files, unreachable = {}, {}
        for node in nodes:
            try:
                if node.is_running:
                    files[node.name] = MirrorFiles(self.containers).mirrors(node)
            except AutoregistryError as exc:
                unreachable[node.name] = exc.message
        mirror = _mirror_in_use(ours, files.values())
        return Cluster(name, nodes, files, unreachable, mirror, is_joined, ours.name)

    @contextmanager
    def unpushed_image(self, name: str) -> Iterator[str]:
        """Provide the reference of a small image that only Docker has.

        Its tag and content are new each time, because another command may check a pull at the same moment.
        """
        nonce = secrets.token_hex(16)
        reference = f"{name}/{CHECK}:{nonce}"
        images = Images(self.daemon)
        images.import_file(reference, "nonce", nonce)
        try:
            yield reference
        finally:
            images.remove(reference)

    def check_pull(self, node: Node, name: str) -> None:
        """Pull an image in a node that was not pushed. Raises ClusterRefused, DockerRefused."""
        with self.unpushed_image(name) as reference:
            try:
                self.nodes.pull(node, reference)
            finally:
                self.containers.exec(node.name, ["crictl", "rmi", reference], timeout=30)


def _mirror_in_use(ours: Mirror, files: Iterable[Mapping[str, list[str]]]) -> Mirror | None:
    """Return the configuration by which nodes with these mirrors reach us; None if they do not.

    On the host's route the port may differ from that of `up`, because `serve` can listen on any port.
    """
    pairs = [pair for file in files for pair in file.items()]
    for name, urls in sorted(pairs, key=lambda pair: pair[0] != ours.name):
        if ours.endpoints[0] in urls:
            if name == ours.name:
                return ours
        elif name.startswith("localhost:"):
            by_host = Mirror.of(RegistryNames(name).port, None)
            if by_host.endpoints[0] in urls:
                return by_host
    return None
