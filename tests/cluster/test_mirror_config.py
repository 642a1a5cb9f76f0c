"""The exact files for a cluster, and the exact command line of k3d."""

from __future__ import annotations

import pytest
import yaml

from autoregistry.cluster.config_map import config_map_yaml
from autoregistry.cluster.mirror_config import (
    Mirror,
    hosts_path,
    hosts_toml,
    parse_hosts_toml,
    registries_yaml,
)
from autoregistry.cluster.nodes import parse_images

BY_NAME = Mirror.of(5001, "autoregistry")
BY_HOST = Mirror.of(5001, None)


def test_registries_yaml_has_our_container_before_the_host() -> None:
    urls = {"endpoint": ["http://autoregistry:5000", "http://host.k3d.internal:5001"]}

    text = registries_yaml(BY_NAME)

    assert {"mirrors": {"localhost:5001": urls, "127.0.0.1:5001": urls}} == yaml.safe_load(text)
    assert text.startswith("# Written by autoregistry")


def test_users_own_registries_are_kept() -> None:
    own = {
        "mirrors": {"docker.io": {"endpoint": ["http://cache:5000"]}, "localhost:5001": {}},
        "configs": {"x": {}},
    }

    merged = yaml.safe_load(registries_yaml(BY_HOST, own))

    assert merged["mirrors"]["docker.io"] == {"endpoint": ["http://cache:5000"]}
    assert merged["mirrors"]["localhost:5001"] == {"endpoint": ["http://host.k3d.internal:5001"]}
    assert merged["configs"] == {"x": {}}


def test_hosts_toml_never_falls_back_to_the_nodes_own_localhost() -> None:
    lines = [line for line in hosts_toml(BY_NAME, "localhost:5001").splitlines() if "://" in line]

    assert lines == [
        'server = "http://host.k3d.internal:5001"',
        '[host."http://autoregistry:5000"]',
    ]
    assert "[host" not in hosts_toml(BY_HOST, "localhost:5001")


def test_path_of_hosts_toml_has_the_host_and_port() -> None:
    folder = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"

    assert f"{folder}/localhost:5001/hosts.toml" == hosts_path("localhost:5001")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(hosts_toml(BY_NAME, "localhost:5001"), list(BY_NAME.endpoints), id="ours"),
        pytest.param(
            hosts_toml(BY_HOST, "localhost:5001"), list(BY_HOST.endpoints), id="one endpoint"
        ),
        pytest.param(
            '[host]\n[host."http://a"]\n  [host."http://a".rewrite]', ["http://a"], id="no server"
        ),
        pytest.param("server = http://a", [], id="not TOML"),
        pytest.param("host = 1", [], id="another type"),
        pytest.param("", [], id="empty"),
    ],
)
def test_hosts_toml_is_read_in_containerds_order(text: str, expected: list[str]) -> None:
    assert expected == parse_hosts_toml(text)


def test_config_map_is_that_of_kep_1755() -> None:
    config_map = yaml.safe_load(config_map_yaml(BY_NAME))

    assert (
        config_map["metadata"]["name"],
        config_map["metadata"]["namespace"],
    ) == ("local-registry-hosting", "kube-public")
    assert yaml.safe_load(config_map["data"]["localRegistryHosting.v1"]) == {
        "host": "localhost:5001",
        "hostFromContainerRuntime": "localhost:5001",
        "hostFromClusterNetwork": "autoregistry:5000",
        "help": "http://localhost:5001/_autoregistry/",
    }


def test_images_of_a_node_are_read_by_reference() -> None:
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
    } == parse_images(listed)  # type: ignore[arg-type]  # a literal's inferred type
