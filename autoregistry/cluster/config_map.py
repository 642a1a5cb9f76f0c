"""The ConfigMap of KEP-1755 in a cluster, by which Tilt, skaffold and ctlptl find the registry.

The ConfigMap of another tool (k3d creates one for its own registry) is kept in an annotation of ours, and restored
when the cluster is detached.
"""

from __future__ import annotations

from string import Template
from typing import Any

import yaml

from autoregistry.cluster.mirror_config import Mirror, parse_mapping
from autoregistry.cluster.nodes import Nodes
from autoregistry.template_files import read_template

CONFIG_MAP = "local-registry-hosting"
CONFIG_MAP_NAMESPACE = "kube-public"
CONFIG_MAP_KEY = "localRegistryHosting.v1"
_BACKUP_ANNOTATION = "k3d-autoregistry/before"
_MANAGER_LABEL = "app.kubernetes.io/managed-by"
_OBJECT = (CONFIG_MAP, "--namespace", CONFIG_MAP_NAMESPACE)


def config_map_yaml(mirror: Mirror) -> str:
    """Return the ConfigMap that names this registry."""
    values = {"name": mirror.name, "inside": mirror.endpoints[0].removeprefix("http://")}
    return Template(read_template("local-registry-hosting.yaml")).substitute(values)


def parse_config_map(text: str) -> dict[str, Any]:
    """Return the fields of the registry in such a ConfigMap, in YAML or JSON."""
    return parse_mapping(parse_mapping(parse_mapping(text).get("data")).get(CONFIG_MAP_KEY))


def announce(nodes: Nodes, cluster: str, mirror: Mirror) -> str:
    """Name the registry in the cluster's ConfigMap.

    Returns the registry that another tool's ConfigMap named before, or "". Raises ClusterRefused.
    """
    is_ours, theirs = _existing(nodes, cluster)
    config_map = parse_mapping(config_map_yaml(mirror))
    if theirs:
        config_map["metadata"]["annotations"] = {_BACKUP_ANNOTATION: theirs}
    nodes.kubectl(cluster, "apply", "-f", "-", input=yaml.safe_dump(config_map))
    return "" if is_ours else str(parse_mapping(theirs).get("host") or "")


def withdraw(nodes: Nodes, cluster: str) -> None:
    """Remove our ConfigMap, and restore that of another tool. Raises ClusterRefused."""
    is_ours, backup = _existing(nodes, cluster)
    if is_ours and backup:
        metadata = {"name": CONFIG_MAP, "namespace": CONFIG_MAP_NAMESPACE}
        data = {CONFIG_MAP_KEY: backup}
        restored = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        nodes.kubectl(cluster, "replace", "-f", "-", input=yaml.safe_dump(restored))
    elif is_ours:
        nodes.kubectl(cluster, "delete", "configmap", *_OBJECT, "--ignore-not-found")


def announced(nodes: Nodes, cluster: str) -> dict[str, Any]:
    """Return the fields of the registry that the cluster names; empty if there are none. Raises ClusterRefused."""
    return parse_config_map(_get(nodes, cluster))


def _get(nodes: Nodes, cluster: str) -> str:
    words = ("get", "configmap", *_OBJECT, "--ignore-not-found", "--output=json")
    return nodes.kubectl(cluster, *words)


def _existing(nodes: Nodes, cluster: str) -> tuple[bool, str]:
    """Return `(is_ours, theirs)` of the ConfigMap; `theirs` is another tool's text, now or in our backup."""
    existing = parse_mapping(_get(nodes, cluster))
    metadata = parse_mapping(existing.get("metadata"))
    if parse_mapping(metadata.get("labels")).get(_MANAGER_LABEL) == "autoregistry":
        return True, str(parse_mapping(metadata.get("annotations")).get(_BACKUP_ANNOTATION) or "")
    return False, str(parse_mapping(existing.get("data")).get(CONFIG_MAP_KEY) or "")
