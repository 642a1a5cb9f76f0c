"""The stack, the nodes and the clusters of one Docker daemon, as the commands use them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

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
from autoregistry.stack.model import BACKEND, PROXY, Options


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
        networks = Networks(self.daemon)
        return Attachment(self.containers, networks, self.nodes, self.files, mirror, members)

    def mirror_in_use(self, files: Iterable[Mapping[str, list[str]]]) -> Mirror | None:
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
        """Provide the reference of a small image that only Docker has, with new content each time."""
        reference = f"{name}/{CHECK}"
        images = Images(self.daemon)
        images.import_file(reference, "nonce", secrets.token_hex(16))
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
    """The name that its images are tagged with, if it differs from that of `up`."""

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
                return "the host's address" + (f", as {self.registry}" if self.registry else "")
        return "not attached"

    def to_json(self) -> dict[str, object]:
        """Return the row as `cluster list --json` and `status --json` print it."""
        counts = {"nodes": self.nodes, "running": self.running, "attached": self.attached}
        return {"name": self.name, **counts, "via": self.via}


def cluster_rows(environment: Environment) -> list[ClusterRow]:
    """Return every k3d cluster of this Docker, attached or not."""
    all_nodes = environment.nodes.all()
    networks = environment.containers.networks_of(PROXY)
    rows = []
    for name in sorted({node.cluster for node in all_nodes}):
        nodes = [node for node in all_nodes if node.cluster == name]
        files = []
        for node in nodes:
            with suppress(AutoregistryError):  # it is stopping, or hangs
                files += [environment.files.mirrors(node)] if node.is_running else []
        mirror = environment.mirror_in_use(files)
        is_own = mirror is None or mirror.name == environment.options().name
        rows.append(
            ClusterRow(
                name=name,
                nodes=len(nodes),
                running=sum(node.is_running for node in nodes),
                attached=sum(mirror.name in file for file in files) if mirror else 0,
                route=mirror.route if mirror else None,
                is_joined=nodes[0].network in networks,
                registry="" if is_own or mirror is None else mirror.name,
            )
        )
    return rows
