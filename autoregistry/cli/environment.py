"""The stack, the nodes and the clusters of one Docker daemon, as the commands use them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from autoregistry.cli import docker
from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror, Route, base_urls
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.networks import Networks
from autoregistry.errors import AutoregistryError, SettingInvalid
from autoregistry.names import RegistryNames
from autoregistry.settings import CHECK
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.model import BACKEND, PROXY
from autoregistry.stack.options import Options


@dataclass(frozen=True, slots=True)
class Cluster:
    """A k3d cluster, and the mirror files of its running nodes."""

    name: str
    nodes: list[Node]
    files: dict[Node, dict[str, list[str]]]
    unreachable: dict[str, str]
    """Running nodes that did not answer, such as one that has just stopped, and the cause."""
    mirror: Mirror | None
    """The configuration by which its nodes reach us; None if they do not."""

    @property
    def attached(self) -> list[Node]:
        """The nodes that pull through us."""
        return [n for n, file in self.files.items() if self.mirror and self.mirror.name in file]


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

    @property
    def k3d_variables(self) -> dict[str, str]:
        """The environment variables for k3d, so that it uses the same daemon."""
        return {**os.environ, **self.daemon.environment}

    @property
    def files(self) -> MirrorFiles:
        return MirrorFiles(self.containers)

    def stack(self) -> CurrentStack:
        """Ask Docker for the stack of `up`."""
        return find_stack(self.containers)

    def options(self) -> Options:
        """Ask Docker for the options of the stack; the defaults if it does not exist."""
        return self.stack().options

    def mirror(self, route: Route = Route.CONTAINER, port: int | None = None) -> Mirror:
        """Return the configuration for nodes that use this route. `port` is that of `serve` on the host."""
        if route is Route.HOST:
            return Mirror.of(port or self.options().port, None)
        stack_port = self.options().port
        if port not in (None, stack_port):
            raise SettingInvalid("--port is for --via host", f"autoregistry up --port {port}")
        return Mirror.of(stack_port, PROXY)

    def attachment(self, mirror: Mirror) -> Attachment:
        """Return what attaches clusters in this way."""
        members = () if mirror.route is Route.HOST else (BACKEND, PROXY)
        return Attachment(self.containers, Networks(self.daemon), mirror, members)

    def clusters(self) -> list[Cluster]:
        """Return every k3d cluster of this Docker, attached or not."""
        groups = groupby(self.nodes.all(), key=lambda node: node.cluster)
        return [self._cluster(name, list(nodes)) for name, nodes in groups]

    def _cluster(self, name: str, nodes: list[Node]) -> Cluster:
        files, unreachable = {}, {}
        for node in nodes:
            try:
                if node.is_running:
                    files[node] = self.files.mirrors(node)
            except AutoregistryError as exc:
                unreachable[node.name] = exc.message
        return Cluster(name, nodes, files, unreachable, self._mirror_in_use(files.values()))

    def _mirror_in_use(self, files: Iterable[Mapping[str, list[str]]]) -> Mirror | None:
        """Return the configuration by which nodes with these mirror files reach us; None if they do not.

        On the host's route the port may differ from that of `up`, because `serve` can listen on any port.
        """
        ours = self.mirror()
        pairs = [pair for file in files for pair in file.items()]
        for name, urls in sorted(pairs, key=lambda pair: pair[0] != ours.name):
            if not name.startswith("localhost:"):
                continue
            is_by_container = ours.endpoints[0] in base_urls(urls)
            by_host = Mirror.of(RegistryNames(name).port, None)
            if is_by_container and name == ours.name:
                return ours
            if by_host.endpoints[0] in base_urls(urls) and not is_by_container:
                return by_host
        return None

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


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A k3d cluster, and how it pulls."""

    name: str
    nodes: int
    running: int
    attached: int
    """The number of nodes that pull through us."""
    route: Route | None
    """None if it is not attached."""
    is_joined: bool
    """The registry is on the cluster's network."""
    registry: str
    """The name that its images are tagged with."""
    own_name: str
    """The name of the registry of `up`."""

    @property
    def is_unreachable(self) -> bool:
        """True if the cluster is attached by the containers' network, and the registry is not on it."""
        return self.route is Route.CONTAINER and not self.is_joined

    @property
    def via(self) -> str:
        """The route in words."""
        match self.route:
            case Route.CONTAINER:
                network = "Docker's network"
                return network if self.is_joined else f"{network}, which the registry is not on"
            case Route.HOST:
                is_own = self.registry == self.own_name
                return "the host's address" + ("" if is_own else f", as {self.registry}")
        return "not attached"

    def to_json(self) -> dict[str, object]:
        """Return the row as `cluster list --json` and `status --json` print it."""
        counts = {"nodes": self.nodes, "running": self.running, "attached": self.attached}
        return {"name": self.name, **counts, "via": self.via}


def cluster_rows(environment: Environment) -> list[ClusterRow]:
    """Return a row for every k3d cluster of this Docker, attached or not."""
    networks = environment.containers.networks_of(PROXY)
    own_name = environment.options().name
    return [
        ClusterRow(
            name=cluster.name,
            nodes=len(cluster.nodes),
            running=sum(node.is_running for node in cluster.nodes),
            attached=len(cluster.attached),
            route=cluster.mirror.route if cluster.mirror else None,
            is_joined=cluster.nodes[0].network in networks,
            registry=cluster.mirror.name if cluster.mirror else own_name,
            own_name=own_name,
        )
        for cluster in environment.clusters()
    ]
