"""What the cluster commands share: the parts they work with, and the proof that a cluster pulls."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
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
from autoregistry.errors import SettingInvalid
from autoregistry.settings import CHECK
from autoregistry.stack.current import Found, find
from autoregistry.stack.model import BACKEND, PROXY, Options


@dataclass(frozen=True, slots=True)
class Road:
    """How the nodes of a cluster come to the registry."""

    mirror: Mirror
    is_by_host: bool

    @property
    def name(self) -> str:
        """What the images are tagged with that come this way."""
        return self.mirror.names[0]


@dataclass(frozen=True, slots=True)
class Clusters:
    """One Docker daemon's stack and clusters."""

    daemon: Daemon
    containers: Containers
    nodes: Nodes

    @classmethod
    def here(cls) -> Clusters:
        daemon = docker.daemon()
        containers = Containers(daemon)
        return cls(daemon, containers, Nodes(containers))

    @property
    def k3d_environment(self) -> dict[str, str]:
        """k3d's too, for it must not find another daemon than we did."""
        return {**os.environ, **self.daemon.environment}

    @property
    def found(self) -> Found:
        return find(self.containers)

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

    def road(self, known: Iterable[Mapping[str, list[str]]]) -> Road | None:
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
                return Road(ours, is_by_host=False)
            if by_host.endpoints[0] in plain(ends) and not by_name:
                return Road(by_host, is_by_host=True)
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
