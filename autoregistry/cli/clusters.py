"""What the cluster commands share: the parts they work with, and the proof that a cluster pulls."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from autoregistry.cli import wiring
from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.files import Mirror
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.engine.connect import Daemon
from autoregistry.engine.containers import Containers
from autoregistry.engine.images import Images
from autoregistry.engine.networks import Networks
from autoregistry.stack.found import Found, find
from autoregistry.stack.model import BACKEND, PROXY, Options

CHECK = "autoregistry/check:pull"
"""The image of the proof; each run gives it new content, so a stale answer would show."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """One Docker daemon's stack and clusters."""

    daemon: Daemon
    containers: Containers
    nodes: Nodes

    @classmethod
    def here(cls) -> Clusters:
        daemon = wiring.daemon()
        containers = Containers(daemon)
        return cls(daemon, containers, Nodes(containers))

    @property
    def k3d_environment(self) -> dict[str, str]:
        """k3d does not read Docker's contexts: the daemon is named to it."""
        return {**os.environ, "DOCKER_HOST": self.daemon.host}

    @property
    def found(self) -> Found:
        return find(self.containers)

    @property
    def options(self) -> Options:
        return self.found.options

    def mirror(self, *, by_host: bool = False) -> Mirror:
        return Mirror.of(self.options.port, None if by_host else PROXY)

    def attachment(self, *, by_host: bool = False) -> Attachment:
        members = () if by_host else (BACKEND, PROXY)
        networks = Networks(self.daemon)
        return Attachment(
            self.containers, networks, self.nodes, self.mirror(by_host=by_host), members
        )

    def remove_left(self, network: str) -> None:
        """k3d keeps a cluster's own network where a node was added later; nobody needs it any more."""
        networks = Networks(self.daemon)
        labels = networks.labels(network)
        if labels is not None and labels.get("app") == "k3d" and not networks.members(network):
            networks.remove(network)

    def prove(self, node: Node, name: str) -> None:
        """Pull, inside a node, an image that was only built. Raises ClusterRefused, DockerRefused."""
        reference = f"{name}/{CHECK}"
        images = Images(self.daemon)
        images.import_file(reference, "nonce", secrets.token_hex(16))
        try:
            self.nodes.pull(node, reference)
        finally:
            images.remove(reference)
            self.containers.exec(node.name, ["crictl", "rmi", reference], timeout=30)
