"""Reading, writing and removing the mirror files in a node.

There are two kinds: `hosts.toml`, which containerd reads at every pull, and `registries.yaml`, from which k3s
generates hosts.toml when it starts. Mirrors that do not lead to this registry are left as they are.
"""

from __future__ import annotations

import re

from autoregistry.cluster.mirror_config import (
    CERTS_FOLDER,
    REGISTRIES_PATH,
    Mirror,
    hosts_path,
    hosts_toml,
    parse_hosts_toml,
    parse_mapping,
    parse_registries_yaml,
    registries_without,
    registries_yaml,
)
from autoregistry.cluster.nodes import Node
from autoregistry.engine.containers import Containers
from autoregistry.errors import DockerRefused

# The first patch release of each k3s whose containerd reads certs.d, all of January 2024 (k3s-io/k3s#8975).
_HOSTS_TOML_SINCE = {27: 10, 28: 6, 29: 1}
_K3S_VERSION = re.compile(r"v1\.(\d+)\.(\d+)")
_LOOPBACK_NAMES = ("localhost:", "127.0.0.1:")
_NAME_MARK = "== "
# The registries.yaml from before `attach`, if it named another registry for our names; `detach` restores it.
_BACKUP_PATH = f"{REGISTRIES_PATH}.before-autoregistry"
_SHOW_HOSTS_TOML = f"""
cd "$1" 2>/dev/null && for name in localhost:* 127.0.0.1:*
do [ -f "$name/hosts.toml" ] && echo "{_NAME_MARK}$name" && cat "$name/hosts.toml"
done
true"""


class MirrorFiles:
    """The mirror files in the nodes of one Docker daemon."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    def mirrors(self, node: Node) -> dict[str, list[str]]:
        """Return the endpoints from which this node pulls each name of a registry on a loopback address."""
        argv = ["sh", "-c", _SHOW_HOSTS_TOML, "sh", CERTS_FOLDER]
        output = self._containers.exec(node.name, argv, timeout=10).stdout
        parts = (part.partition("\n") for part in f"\n{output}".split(f"\n{_NAME_MARK}")[1:])
        found = {name: parse_hosts_toml(text) for name, _, text in parts}
        return {
            name: urls for name, urls in found.items() if name.startswith(_LOOPBACK_NAMES) and urls
        }

    def is_supported(self, node: Node) -> bool:
        """Return True if the containerd of this node's k3s reads hosts.toml."""
        output = self._containers.exec(node.name, ["k3s", "--version"]).stdout
        version = _K3S_VERSION.search(output)
        if version is None:
            return False
        minor, patch = int(version[1]), int(version[2])
        return minor > max(_HOSTS_TOML_SINCE) or patch >= _HOSTS_TOML_SINCE.get(minor, 1 << 30)

    def attach(self, node: Node, mirror: Mirror) -> bool:
        """Make this node pull our names through us, from its next pull on.

        Returns False if this lasts only until the node's next start: its registries.yaml names another endpoint for
        these names, and cannot be changed because it is a file of the user's that is mounted there.
        """
        for name in mirror.names.all:
            self._containers.put_file(node.name, hosts_path(name), hosts_toml(mirror, name))
        text = self._containers.get_file(node.name, REGISTRIES_PATH) or ""
        existing, ours = parse_registries_yaml(text), [*mirror.endpoints]
        if all(existing.get(name, ours) == ours for name in mirror.names.all):
            return True
        ours_before = (mirror.is_reached_by(n, existing.get(n, ours)) for n in mirror.names.all)
        try:
            merged = registries_yaml(mirror, parse_mapping(text))
            self._containers.put_file(node.name, REGISTRIES_PATH, merged)
            if not all(ours_before):
                self._containers.put_file(node.name, _BACKUP_PATH, text)
        except DockerRefused:
            return False
        return True

    def detach(self, node: Node, mirror: Mirror) -> bool:
        """Remove every mirror that leads to us, under any name, so that no restart brings it back.

        Returns False if registries.yaml has a mirror for our names that takes effect at the node's next start: the
        user's own, which is restored, or ours, in a file of the user's that is mounted there.
        """
        for name, urls in self.mirrors(node).items():
            if mirror.is_reached_by(name, urls):
                folder = hosts_path(name).rpartition("/")[0]
                self._containers.exec(node.name, ["rm", "-rf", folder])
        if (backup := self._containers.get_file(node.name, _BACKUP_PATH)) is not None:
            self._containers.put_file(node.name, REGISTRIES_PATH, backup)
            self._containers.exec(node.name, ["rm", "-f", _BACKUP_PATH])
            return False
        registries = self._containers.get_file(node.name, REGISTRIES_PATH) or ""
        kept = registries_without(registries, mirror)
        if kept is not None:
            try:
                self._containers.put_file(node.name, REGISTRIES_PATH, kept)
            except DockerRefused:
                return False
        return True
