"""The exact files that a cluster is given, and the exact command line that k3d is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autoregistry.cluster import k3d
from autoregistry.cluster.mirror_config import (
    Mirror,
    config_map,
    hosts_path,
    hosts_toml,
    registries_yaml,
)
from autoregistry.cluster.nodes import held

BY_NAME = Mirror.of(5001, "autoregistry")
BY_HOST = Mirror.of(5001, None)


def test_registries_yaml_tries_our_name_and_then_the_host() -> None:
    ends = {"endpoint": ["http://autoregistry:5000", "http://host.k3d.internal:5001"]}

    text = registries_yaml(BY_NAME)

    assert {"mirrors": {"localhost:5001": ends, "127.0.0.1:5001": ends}} == yaml.safe_load(text)
    assert text.startswith("# Written by autoregistry")


def test_a_users_own_registries_are_kept() -> None:
    own = {
        "mirrors": {"docker.io": {"endpoint": ["http://cache:5000"]}, "localhost:5001": {}},
        "configs": {"x": {}},
    }

    merged = yaml.safe_load(registries_yaml(BY_HOST, own))

    assert merged["mirrors"]["docker.io"] == {"endpoint": ["http://cache:5000"]}
    assert merged["mirrors"]["localhost:5001"] == {"endpoint": ["http://host.k3d.internal:5001"]}
    assert merged["configs"] == {"x": {}}


def test_hosts_toml_never_ends_at_the_nodes_own_localhost() -> None:
    lines = [line for line in hosts_toml(BY_NAME, "localhost:5001").splitlines() if "://" in line]

    assert lines == [
        'server = "http://host.k3d.internal:5001"',
        '[host."http://autoregistry:5000"]',
    ]
    assert "[host" not in hosts_toml(BY_HOST, "localhost:5001")


def test_hosts_toml_lies_where_containerd_looks_for_this_host_and_port() -> None:
    folder = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"

    assert f"{folder}/localhost:5001/hosts.toml" == hosts_path("localhost:5001")


def test_the_config_map_is_that_of_kep_1755() -> None:
    made = yaml.safe_load(config_map(BY_NAME))

    assert (
        made["metadata"]["name"],
        made["metadata"]["namespace"],
    ) == ("local-registry-hosting", "kube-public")
    assert yaml.safe_load(made["data"]["localRegistryHosting.v1"]) == {
        "host": "localhost:5001",
        "hostFromContainerRuntime": "localhost:5001",
        "hostFromClusterNetwork": "autoregistry:5000",
        "help": "http://localhost:5001/_autoregistry/",
    }


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(
            ["--agents", "2"], ["--subnet", "auto", "--agents", "2"], id="addresses that stay"
        ),
        pytest.param(["--network", "mine"], ["--network", "mine"], id="the user's own network"),
        pytest.param(
            ["--subnet=10.9.0.0/16"], ["--subnet=10.9.0.0/16"], id="the user's own subnet"
        ),
    ],
)
def test_k3d_is_run_with_our_registries_and_the_users_flags(
    flags: list[str], expected: list[str]
) -> None:
    argv = k3d.create("k3d", "dev", Path("/r.yaml"), flags)

    assert ["k3d", "cluster", "create", "dev", "--registry-config", "/r.yaml", *expected] == argv


def test_what_a_node_holds_is_read_by_reference() -> None:
    listed = {
        "images": [
            {
                "repoTags": ["localhost:5000/a:dev", "localhost:5000/b:x"],
                "repoDigests": ["localhost:5000/a@sha256:1", "localhost:5000/b@sha256:2"],
            },
            {"repoTags": None, "repoDigests": None},
        ]
    }

    assert {
        "localhost:5000/a:dev": frozenset({"sha256:1"}),
        "localhost:5000/b:x": frozenset({"sha256:2"}),
    } == held(listed)  # type: ignore[arg-type]  # a literal's inferred type
