"""The ConfigMap of KEP-1755: another tool's is kept, and stands again when the cluster is let go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from autoregistry.cluster.config_map import announce, told, withdraw
from autoregistry.cluster.mirror_config import CONFIG_MAP, HOSTING, Mirror

OURS = Mirror.of(5000, "autoregistry")
MOVED = Mirror.of(5001, "autoregistry")
THEIRS = 'host: "localhost:5050"\nhelp: "https://k3d.io"\n'


@dataclass
class Cluster:
    """A cluster's one ConfigMap, for the words of kubectl that are used."""

    there: dict[str, Any] | None = None

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        match words:
            case ["get", "configmap", name, *_, "--output=json"]:
                assert name == CONFIG_MAP
                return yaml.safe_dump(self.there) if self.there else ""
            case ["apply" | "replace", "-f", "-"]:
                self.there = yaml.safe_load(input or "")
            case ["delete", "configmap", name, *_]:
                assert name == CONFIG_MAP
                self.there = None
            case _:
                raise AssertionError(words)
        return ""


def theirs(text: str = THEIRS) -> Cluster:
    metadata = {"name": CONFIG_MAP, "namespace": "kube-public"}
    return Cluster({"metadata": metadata, "data": {HOSTING: text}})


def test_where_there_was_none_there_is_none_again() -> None:
    cluster = Cluster()

    assert announce(cluster, "dev", OURS) == ""
    assert told(cluster, "dev")["host"] == "localhost:5000"
    withdraw(cluster, "dev")
    assert cluster.there is None


def test_another_tools_stands_again_however_often_ours_was_told() -> None:
    cluster = theirs()

    assert announce(cluster, "dev", OURS) == "localhost:5050"
    assert announce(cluster, "dev", MOVED) == ""
    assert told(cluster, "dev")["host"] == "localhost:5001"
    withdraw(cluster, "dev")
    assert told(cluster, "dev") == yaml.safe_load(THEIRS)
    assert cluster.there is not None
    assert set(cluster.there["metadata"]) == {"name", "namespace"}


@pytest.mark.parametrize("text", ["not: [yaml", ""], ids=["cannot be read", "empty"])
def test_what_cannot_be_read_is_replaced_all_the_same(text: str) -> None:
    cluster = theirs(text)

    assert announce(cluster, "dev", OURS) == ""
    assert told(cluster, "dev")["host"] == "localhost:5000"


def test_what_is_not_ours_is_not_taken_back() -> None:
    cluster = theirs()

    withdraw(cluster, "dev")

    assert told(cluster, "dev") == yaml.safe_load(THEIRS)
