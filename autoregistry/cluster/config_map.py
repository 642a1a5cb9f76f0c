"""The ConfigMap of KEP-1755 in a cluster, by which Tilt, skaffold and ctlptl find the registry.

Where another tool has put one (k3d does, for a registry of its own), it is kept in an annotation of ours, and put
back when the cluster is let go.
"""

from __future__ import annotations

from typing import Protocol

import yaml

from autoregistry.cluster.mirror_config import (
    CONFIG_MAP,
    CONFIG_MAP_NAMESPACE,
    HOSTING,
    Mirror,
    config_map,
    hosting,
    mapping,
)
from autoregistry.errors import SettingInvalid

BEFORE = "k3d-autoregistry/before"
_MANAGER = "app.kubernetes.io/managed-by"
_WHERE = (CONFIG_MAP, "--namespace", CONFIG_MAP_NAMESPACE)


class Cluster(Protocol):
    """What is needed of the clusters (`cluster/nodes.py`)."""

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str: ...


def announce(clusters: Cluster, cluster: str, mirror: Mirror) -> str:
    """Say in the cluster where its registry is; the one it named before, empty where that was none or ours.

    Raises ClusterRefused.
    """
    is_ours, theirs = _standing(clusters, cluster)
    clusters.kubectl(cluster, "apply", "-f", "-", input=_with_before(config_map(mirror), theirs))
    return "" if is_ours else _host(theirs)


def withdraw(clusters: Cluster, cluster: str) -> None:
    """Take that back; what another tool had said stands again. Raises ClusterRefused."""
    is_ours, before = _standing(clusters, cluster)
    if not is_ours:
        return
    if not before:
        clusters.kubectl(cluster, "delete", "configmap", *_WHERE, "--ignore-not-found")
        return
    named = {"name": CONFIG_MAP, "namespace": CONFIG_MAP_NAMESPACE}
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {HOSTING: before}}
    clusters.kubectl(cluster, "replace", "-f", "-", input=yaml.safe_dump(theirs))


def told(clusters: Cluster, cluster: str) -> dict[str, object]:
    """What the cluster says of its registry; empty where it says nothing. Raises ClusterRefused."""
    return hosting(_get(clusters, cluster))


def _get(clusters: Cluster, cluster: str) -> str:
    return clusters.kubectl(
        cluster, "get", "configmap", *_WHERE, "--ignore-not-found", "--output=json"
    )


def _standing(clusters: Cluster, cluster: str) -> tuple[bool, str]:
    """Whether the ConfigMap there is ours, and what another tool says, or said before."""
    there = mapping(_get(clusters, cluster))
    metadata = mapping(there.get("metadata"))
    if mapping(metadata.get("labels")).get(_MANAGER) == "autoregistry":
        return True, str(mapping(metadata.get("annotations")).get(BEFORE) or "")
    return False, str(mapping(there.get("data")).get(HOSTING) or "")


def _host(hosting: str) -> str:
    try:
        return str(mapping(hosting).get("host") or "")
    except SettingInvalid:
        return ""


def _with_before(text: str, before: str) -> str:
    if not before:
        return text
    made = mapping(text)
    made["metadata"]["annotations"] = {BEFORE: before}
    return yaml.safe_dump(made, sort_keys=False)
