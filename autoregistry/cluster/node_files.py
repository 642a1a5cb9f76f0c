"""The files in a node that say where images of a name are pulled from: reading, writing and taking back ours.

There are two: `hosts.toml`, which containerd reads at every pull, and `registries.yaml`, from which k3s makes the
former when it starts. Refuses to touch what does not lead to us.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from autoregistry.cluster.mirror_config import (
    CERTS,
    REGISTRIES,
    Mirror,
    endpoints,
    hosts_path,
    hosts_toml,
    mirrors_of,
    registries_with,
    registries_without,
)
from autoregistry.cluster.nodes import Node
from autoregistry.engine.containers import ExecResult
from autoregistry.errors import DockerRefused

# The first k3s whose containerd reads certs.d (k3s-io/k3s#8975).
HOSTS_TOML_SINCE = {27: 10, 28: 6, 29: 1}
_K3S_VERSION = re.compile(r"v1\.(\d+)\.(\d+)")
_NAMES = ("localhost:", "127.0.0.1:")
_MARK = "== "
# What another road for our names was, until the cluster is let go.
_BEFORE = f"{REGISTRIES}.before-autoregistry"
# An older k3s has no such folder, and configures containerd from registries.yaml alone.
_SHOW = f"""
if cd "$1" 2>/dev/null
then for name in localhost:* 127.0.0.1:*
     do [ -f "$name/hosts.toml" ] && echo "{_MARK}$name" && cat "$name/hosts.toml"
     done
else echo "{_MARK}"; cat "$2" 2>/dev/null
fi
true"""


class Containers(Protocol):
    """What is needed of the engine (`engine/containers.py`)."""

    def exec(
        self, container: str, argv: Sequence[str], *, input: str | None = None, timeout: float = ...
    ) -> ExecResult: ...
    def put_file(self, container: str, path: str, content: str) -> None: ...
    def get_file(self, container: str, path: str) -> str | None: ...


class MirrorFiles:
    """The mirror files of the nodes of one Docker daemon."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def known(self, node: Node) -> dict[str, list[str]]:
        """Each name of a registry on a machine's own loopback, and where this node pulls its images from."""
        argv = ["sh", "-c", _SHOW, "sh", CERTS, REGISTRIES]
        shown = self._containers.exec(node.name, argv, timeout=10).stdout
        found: dict[str, list[str]] = {}
        for part in f"\n{shown}".split(f"\n{_MARK}")[1:]:
            name, _, text = part.partition("\n")
            found |= {name: endpoints(text)} if name else mirrors_of(text)
        return {name: ends for name, ends in found.items() if name.startswith(_NAMES) and ends}

    def is_read_at_every_pull(self, node: Node) -> bool:
        """Whether this k3s is new enough to be told while it runs."""
        version = _K3S_VERSION.search(self._containers.exec(node.name, ["k3s", "--version"]).stdout)
        if version is None:
            return False
        minor, patch = int(version[1]), int(version[2])
        return minor > max(HOSTS_TOML_SINCE) or patch >= HOSTS_TOML_SINCE.get(minor, 1 << 30)

    def attach(self, node: Node, mirror: Mirror) -> bool:
        """Have this node's containerd pull our names through us, from its next pull on.

        False where that lasts until its next start only: k3s then makes its files of registries.yaml again, which has
        another road for these names and cannot be written.
        """
        for name in mirror.names:
            self._containers.put_file(node.name, hosts_path(name), hosts_toml(mirror, name))
        stand = mirrors_of(self._containers.get_file(node.name, REGISTRIES) or "")
        ours = [*mirror.endpoints]
        if any(stand.get(name, ours) != ours for name in mirror.names):
            try:
                self.attach_at_next_start(node, mirror)
            except DockerRefused:  # a file of the user's is mounted there
                return False
        return True

    def attach_at_next_start(self, node: Node, mirror: Mirror) -> None:
        """The same for a k3s that reads its mirrors when it starts; another road for our names is kept beside."""
        others = self._containers.get_file(node.name, REGISTRIES) or ""
        stand = mirrors_of(others)
        self._containers.put_file(node.name, REGISTRIES, registries_with(others, mirror))
        if any(name in stand and not mirror.is_road(name, stand[name]) for name in mirror.names):
            self._containers.put_file(node.name, _BEFORE, others)

    def detach(self, node: Node, mirror: Mirror) -> bool:
        """Take back whatever leads to us, under whatever name, so that the next start does not bring it back.

        False where a road stands in registries.yaml that counts from the node's next start on only: what it was before,
        or ours, in a file of the user's that is mounted there.
        """
        for name, ends in self.known(node).items():
            if mirror.is_road(name, ends):
                folder = hosts_path(name).rpartition("/")[0]
                self._containers.exec(node.name, ["rm", "-rf", folder])
        if (before := self._containers.get_file(node.name, _BEFORE)) is not None:
            self._containers.put_file(node.name, REGISTRIES, before)
            self._containers.exec(node.name, ["rm", "-f", _BEFORE])
            return False
        registries = self._containers.get_file(node.name, REGISTRIES) or ""
        kept = registries_without(registries, mirror)
        if kept is not None:
            try:
                self._containers.put_file(node.name, REGISTRIES, kept)
            except DockerRefused:
                return False
        return True
