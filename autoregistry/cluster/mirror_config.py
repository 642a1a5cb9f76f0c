"""The files a cluster needs to pull through us: registries.yaml, hosts.toml, the ConfigMap of KEP-1755.

Text with comments for people comes from `templates/`; nothing here touches a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from string import Template
from typing import Any

import yaml

from autoregistry.errors import SettingInvalid
from autoregistry.template_files import read_template

CERTS = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"
"""Where k3s has containerd look for hosts.toml (k3s pkg/agent/containerd/config.go)."""
REGISTRIES = "/etc/rancher/k3s/registries.yaml"
"""What k3s makes those of at its start."""
CONFIG_MAP = "local-registry-hosting"
CONFIG_MAP_NAMESPACE = "kube-public"
HOSTING = "localRegistryHosting.v1"


@dataclass(frozen=True, slots=True)
class Mirror:
    """How the nodes of a cluster reach us."""

    names: tuple[str, ...]
    """What images are tagged with, `localhost:5000` first."""
    endpoints: tuple[str, ...]
    """URLs, tried in this order."""
    inside: str
    """Our address from a pod's network, `autoregistry:5000`."""

    @classmethod
    def of(cls, port: int, container: str | None) -> Mirror:
        """For the registry on this port: by its container's name, or by the host's address alone."""
        by_host = f"http://host.k3d.internal:{port}"
        names = (f"localhost:{port}", f"127.0.0.1:{port}")
        if container is None:
            return cls(names, (by_host,), f"host.k3d.internal:{port}")
        return cls(names, (f"http://{container}:5000", by_host), f"{container}:5000")

    def is_road(self, name: str, endpoints: Iterable[str]) -> bool:
        """Whether images of this name, one of ours or of before, are pulled through us from there."""
        by_host = f"http://host.k3d.internal:{name.rpartition(':')[2]}"
        return any(end in (*self.endpoints, by_host) for end in plain(endpoints))


def plain(urls: Iterable[str]) -> list[str]:
    """Without the path that k3s adds."""
    return [url.rstrip("/").removesuffix("/v2") for url in urls]


def registries_yaml(mirror: Mirror, others: dict[str, Any] | None = None) -> str:
    """What k3s makes its nodes' hosts.toml files from. `others`: a user's own, whose other mirrors stay."""
    entries = {name: {"endpoint": list(mirror.endpoints)} for name in mirror.names}
    mirrors = yaml.safe_dump(entries, sort_keys=False, default_style=None)
    text = Template(read_template("registries.yaml")).substitute(mirrors=_indented(mirrors))
    if not others:
        return text
    comment = text.partition("mirrors:")[0]
    merged = {**others, "mirrors": {**(others.get("mirrors") or {}), **entries}}
    return comment + yaml.safe_dump(merged, sort_keys=False)


def mirrors_of(registries: str) -> dict[str, list[str]]:
    """The mirrors of a registries.yaml, and where each pulls from; none where it cannot be read."""
    try:
        mirrors = mapping(mapping(registries).get("mirrors"))
    except SettingInvalid:
        return {}
    return {str(n): list(mapping(m).get("endpoint") or []) for n, m in mirrors.items()}


def registries_with(registries: str, mirror: Mirror) -> str:
    """A node's registries.yaml with our mirrors in it."""
    return registries_yaml(mirror, mapping(registries))


def registries_without(registries: str, mirror: Mirror) -> str | None:
    """A node's registries.yaml without the mirrors that lead to us; None where there are none."""
    ours = {n for n, ends in mirrors_of(registries).items() if mirror.is_road(n, ends)}
    whole = mapping(registries)
    kept = {
        name: value for name, value in mapping(whole.get("mirrors")).items() if name not in ours
    }
    return yaml.safe_dump({**whole, "mirrors": kept}, sort_keys=False) if ours else None


def hosts_toml(mirror: Mirror, name: str) -> str:
    """What containerd reads at every pull of `name/...`.

    The last endpoint is the `server`: it is what containerd tries last, and it repeats what failed there. Without
    it that would be the node's own localhost, and people would read `connection refused`.
    """
    ends = {"first": mirror.endpoints[0], "last": mirror.endpoints[-1]}
    text = Template(read_template("hosts.toml")).substitute(name=name, **ends)
    return text if len(mirror.endpoints) > 1 else text.partition("\n[host")[0]


def endpoints(text: str) -> list[str]:
    """Where a hosts.toml, ours or k3s's, has images pulled from, in this order."""
    first = re.findall(r'^\[host\."([^"]+)"\]', text, re.MULTILINE)
    last = re.findall(r'^server = "([^"]+)"', text, re.MULTILINE)
    return [*first, *last]


def hosts_path(name: str) -> str:
    """Where that file lies in a node (containerd docs/hosts.md, "Registry Configuration")."""
    return f"{CERTS}/{name}/hosts.toml"


def config_map(mirror: Mirror) -> str:
    """The ConfigMap by which Tilt, skaffold and ctlptl find a local registry."""
    values = {"name": mirror.names[0], "inside": mirror.inside}
    return Template(read_template("local-registry-hosting.yaml")).substitute(values)


def hosting(config_map: str) -> dict[str, Any]:
    """What such a ConfigMap, as YAML or JSON, says of the registry."""
    return mapping(mapping(mapping(config_map).get("data")).get(HOSTING))


def mapping(value: object, place: str = "it") -> dict[str, Any]:
    """A mapping, or the text of one; empty where it is anything else. Raises SettingInvalid where it is not YAML."""
    try:
        read = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as exc:
        raise SettingInvalid(f"{place} cannot be read: {exc}") from exc
    return read if isinstance(read, dict) else {}


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())
