"""The text of the files by which nodes pull through the registry: registries.yaml and hosts.toml.

Nothing here touches a cluster: `node_files.py` reads and writes these files in nodes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from string import Template
from typing import Any

import yaml

from autoregistry.errors import SettingInvalid
from autoregistry.names import RegistryNames
from autoregistry.template_files import read_template

CERTS_FOLDER = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"
"""The folder in a node where containerd looks for hosts.toml (k3s pkg/agent/containerd/config.go)."""
REGISTRIES_PATH = "/etc/rancher/k3s/registries.yaml"
"""The file in a node from which k3s generates every hosts.toml when it starts."""
HOST_NAME = "host.k3d.internal"
"""The name that k3d gives the host in every node."""


class Route(StrEnum):
    """The routes by which nodes reach the registry; the values of `--via`."""

    CONTAINER = "container"
    """By the name of the proxy's container, on the cluster's network."""
    HOST = "host"
    """By the host's address alone."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """The configuration by which the nodes of a cluster reach the registry."""

    names: RegistryNames
    endpoints: tuple[str, ...]
    """URLs, tried in this order."""
    route: Route = Route.CONTAINER

    @classmethod
    def of(cls, port: int, container: str | None) -> Mirror:
        """Return the configuration for the registry on this port: by its container's name, or by the host alone."""
        names, by_host = RegistryNames.local(port), f"http://{HOST_NAME}:{port}"
        if container is None:
            return cls(names, (by_host,), Route.HOST)
        return cls(names, (f"http://{container}:5000", by_host))

    @property
    def name(self) -> str:
        """The name that images are tagged with."""
        return self.names.primary

    def is_reached_by(self, name: str, endpoints: Iterable[str]) -> bool:
        """Return True if these endpoints of `name`, a current or an earlier name, lead to this registry."""
        by_host = f"http://{HOST_NAME}:{name.rpartition(':')[2]}"
        return not {*self.endpoints, by_host}.isdisjoint(endpoints)


def registries_yaml(mirror: Mirror, others: dict[str, Any] | None = None) -> str:
    """Return the registries.yaml for a cluster. `others` is the user's own file, whose other mirrors are kept."""
    entries = {name: {"endpoint": list(mirror.endpoints)} for name in mirror.names.all}
    merged = merge_registries(others or {}, {"mirrors": entries})
    return read_template("registries.yaml") + yaml.safe_dump(merged, sort_keys=False)


def merge_registries(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the mirrors and configs of two registries.yaml; the second has priority."""
    keys = dict.fromkeys([*first, *second])
    return {key: parse_mapping(first.get(key)) | parse_mapping(second.get(key)) for key in keys}


def parse_registries_yaml(text: str) -> dict[str, list[str]]:
    """Return the endpoints of each mirror in a registries.yaml; nothing if it is not valid YAML."""
    mirrors = parse_mapping(parse_mapping(text).get("mirrors"))
    return {
        str(name): _base_urls(parse_mapping(value).get("endpoint") or [])
        for name, value in mirrors.items()
    }


def registries_without(text: str, mirror: Mirror) -> str | None:
    """Return a registries.yaml without the mirrors that lead to us, or None if it has none."""
    ours = {n for n, urls in parse_registries_yaml(text).items() if mirror.is_reached_by(n, urls)}
    if not ours:
        return None
    whole = parse_mapping(text)
    whole["mirrors"] = {n: value for n, value in whole["mirrors"].items() if n not in ours}
    return yaml.safe_dump(whole, sort_keys=False)


def hosts_toml(mirror: Mirror, name: str) -> str:
    """Return the hosts.toml that containerd reads at every pull of `name/...`.

    containerd tries `server` last and reports its error. Without `server` it would be the node's own localhost, and
    users would read `connection refused`.
    """
    urls = {"first": mirror.endpoints[0], "last": mirror.endpoints[-1]}
    text = Template(read_template("hosts.toml")).substitute(name=name, **urls)
    return text if len(mirror.endpoints) > 1 else text.partition("\n[host")[0]


def parse_hosts_toml(text: str) -> list[str]:
    """Return the endpoints in a hosts.toml in containerd's order; none if it is not valid TOML."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return []
    return _base_urls([*parse_mapping(table.get("host")), str(table.get("server") or "")])


def _base_urls(urls: Iterable[str]) -> list[str]:
    """Return the URLs without the path `/v2` that k3s adds."""
    return [url.rstrip("/").removesuffix("/v2") for url in urls if url]


def hosts_path(name: str) -> str:
    """Return the path in a node of the hosts.toml for `name` (containerd docs/hosts.md, "Registry Configuration")."""
    return f"{CERTS_FOLDER}/{name}/hosts.toml"


def parse_mapping(value: object, source: str = "") -> dict[str, Any]:
    """Return a mapping, or the mapping in a YAML text; empty for any other value.

    Raises SettingInvalid for a text with a `source`, a file of the user's, that is not valid YAML.
    """
    try:
        loaded = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as exc:
        if source:
            raise SettingInvalid(f"{source} cannot be read: {exc}") from exc
        return {}
    return loaded if isinstance(loaded, dict) else {}
