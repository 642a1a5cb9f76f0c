"""What the cluster commands share: the parts they work with, and the proof that a cluster pulls."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from autoregistry.cli import docker
from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror, plain
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.networks import Networks
from autoregistry.errors import AutoregistryError, SettingInvalid
from autoregistry.settings import CHECK
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.model import BACKEND, PROXY, Options


@dataclass(frozen=True, slots=True)
class Route:
    """How the nodes of a cluster come to the registry."""

    mirror: Mirror
    is_by_host: bool

    @property
    def name(self) -> str:
        """What the images are tagged with that come this way."""
        return self.mirror.names[0]


@dataclass(frozen=True, slots=True)
class Environment:
    """One Docker daemon's stack and clusters."""

    daemon: Daemon
    containers: Containers
    nodes: Nodes

    @classmethod
    def here(cls) -> Environment:
        daemon = docker.daemon()
        containers = Containers(daemon)
        return cls(daemon, containers, Nodes(containers))

    @property
    def k3d_environment(self) -> dict[str, str]:
        """k3d's too, for it must not find another daemon than we did."""
        return {**os.environ, **self.daemon.environment}

    @property
    def found(self) -> CurrentStack:
        return find_stack(self.containers)

    @property
    def options(self) -> Options:
        return self.found.options

    @property
    def files(self) -> MirrorFiles:
        return MirrorFiles(self.containers)

    def mirror(self, via: str = "container", port: int | None = None) -> Mirror:
        """Where nodes are to pull from: from the containers, or by the host's address from that port."""
        if via == "host":
            return Mirror.of(port or self.options.port, None)
        if port not in (None, self.options.port):
            raise SettingInvalid("--port is for --via host", f"autoregistry up --port {port}")
        return Mirror.of(self.options.port, PROXY)

    def attachment(self, via: str = "container", port: int | None = None) -> Attachment:
        members = () if via == "host" else (BACKEND, PROXY)
        networks, mirror = Networks(self.daemon), self.mirror(via, port)
        return Attachment(self.containers, networks, self.nodes, self.files, mirror, members)

    def road(self, known: Iterable[Mapping[str, list[str]]]) -> Route | None:
        """By which road nodes with these mirror files come to us; None where they do not.

        By the host's address that may be another port than that of `up`: `serve` has none of its own to be asked for.
        """
        ours = self.mirror()
        pairs = [pair for node in known for pair in node.items()]
        for name, ends in sorted(pairs, key=lambda pair: pair[0] != ours.names[0]):
            if not name.startswith("localhost:"):
                continue
            by_name = ours.endpoints[0] in plain(ends)
            by_host = Mirror.of(int(name.rpartition(":")[2]), None)
            if by_name and name == ours.names[0]:
                return Route(ours, is_by_host=False)
            if by_host.endpoints[0] in plain(ends) and not by_name:
                return Route(by_host, is_by_host=True)
        return None

    def prove(self, node: Node, name: str) -> None:
        """Pull, inside a node, an image that was only built, each time with new content.

        Raises ClusterRefused, DockerRefused.
        """
        reference = f"{name}/{CHECK}"
        images = Images(self.daemon)
        images.import_file(reference, "nonce", secrets.token_hex(16))
        try:
            self.nodes.pull(node, reference)
        finally:
            images.remove(reference)
            self.containers.exec(node.name, ["crictl", "rmi", reference], timeout=30)


NOT_JOINED = "Docker's network, which the registry is not on"


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster, and how it pulls."""

    name: str
    nodes: int
    running: int
    attached: int
    """Nodes that pull through us."""
    via: str


def rows(clusters: Environment) -> list[ClusterRow]:
    """Every k3d cluster of this Docker, attached or not."""
    everything = clusters.nodes.all()
    networks = clusters.containers.networks_of(PROXY)
    found = []
    for cluster_name in sorted({node.cluster for node in everything}):
        nodes = [node for node in everything if node.cluster == cluster_name]
        files = []
        for node in nodes:
            with suppress(AutoregistryError):  # it stops just now, or hangs
                files += [clusters.files.known(node)] if node.is_running else []
        road = clusters.road(files)
        found.append(
            ClusterRow(
                name=cluster_name,
                nodes=len(nodes),
                running=sum(node.is_running for node in nodes),
                attached=sum(road.name in file for file in files) if road else 0,
                via=_via(road, is_joined=nodes[0].network in networks, own=clusters.options.name),
            )
        )
    return found


def _via(road: Route | None, *, is_joined: bool, own: str) -> str:
    if road is None:
        return "not attached"
    if not road.is_by_host:
        return "Docker's network" if is_joined else NOT_JOINED
    return "the host's address" + ("" if road.name == own else f", as {road.name}")
