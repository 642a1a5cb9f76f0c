"""The ConfigMap of KEP-1755: that of another tool is kept, and restored when the cluster is detached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from autoregistry.cluster.config_map import (
    CONFIG_MAP,
    CONFIG_MAP_KEY,
    announce,
    announced,
    withdraw,
)
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.cluster.nodes import Nodes

OURS = Mirror.of(5000, "autoregistry")
MOVED = Mirror.of(5001, "autoregistry")
THEIRS = 'host: "localhost:5050"\nhelp: "https://k3d.io"\n'


@dataclass
class Cluster(Nodes):
    """A cluster with at most one ConfigMap, and the kubectl commands that are used."""

    config_map: dict[str, Any] | None = None

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        match words:
            case ["get", "configmap", name, *_, "--output=json"]:
                assert name == CONFIG_MAP
                return yaml.safe_dump(self.config_map) if self.config_map else ""
            case ["apply" | "replace", "-f", "-"]:
                self.config_map = yaml.safe_load(input or "")
            case ["delete", "configmap", name, *_]:
                assert name == CONFIG_MAP
                self.config_map = None
            case _:
                raise AssertionError(words)
        return ""


def theirs(text: str = THEIRS) -> Cluster:
    metadata = {"name": CONFIG_MAP, "namespace": "kube-public"}
    return Cluster({"metadata": metadata, "data": {CONFIG_MAP_KEY: text}})


def test_config_map_is_removed_if_there_was_none_before() -> None:
    cluster = Cluster()

    assert announce(cluster, "dev", OURS) == ""
    assert announced(cluster, "dev")["host"] == "localhost:5000"
    withdraw(cluster, "dev")
    assert cluster.config_map is None


def test_config_map_of_another_tool_is_restored_after_several_changes() -> None:
    cluster = theirs()

    assert announce(cluster, "dev", OURS) == "localhost:5050"
    assert announce(cluster, "dev", MOVED) == ""
    assert announced(cluster, "dev")["host"] == "localhost:5001"
    withdraw(cluster, "dev")
    assert announced(cluster, "dev") == yaml.safe_load(THEIRS)
    assert cluster.config_map is not None
    assert set(cluster.config_map["metadata"]) == {"name", "namespace"}


@pytest.mark.parametrize("text", ["not: [yaml", ""], ids=["not YAML", "empty"])
def test_unreadable_config_map_is_replaced(text: str) -> None:
    cluster = theirs(text)

    assert announce(cluster, "dev", OURS) == ""
    assert announced(cluster, "dev")["host"] == "localhost:5000"


def test_config_map_of_another_tool_is_not_withdrawn() -> None:
    cluster = theirs()

    withdraw(cluster, "dev")

    assert announced(cluster, "dev") == yaml.safe_load(THEIRS)
