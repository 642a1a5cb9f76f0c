"""Networks of deleted clusters are left; those of other clusters, and the user's own, are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from autoregistry.cluster.attach import leave_deleted_clusters
from autoregistry.engine.containers import Container, Containers
from autoregistry.engine.networks import Networks
from tests.helpers.containers import container

NODE = replace(container("server", "10.0.0.3"), labels={"k3d.cluster": "dev"})
STOPPED = replace(container("server", ""), labels={"k3d.cluster": "dev"})
OURS = replace(container("autoregistry", "10.0.0.253"), labels={"k3d.cluster": ""})


@dataclass
class FakeContainers(Containers):
    """Some containers, all of them on one network."""

    existing: list[Container]
    did: list[str] = field(default_factory=list)
    new: Container | None = None
    """The only container at the second look."""

    def list(self, *labels: str) -> list[Container]:
        existing = self.existing
        if self.new:
            self.existing = [self.new]
        return existing

    def disconnect(self, network: str, container: str) -> bool:
        self.did.append(f"disconnect {container}")
        return True


@dataclass
class FakeNetworks(Networks):
    """That network, with the Id `one`."""

    network: Mapping[str, str] | None
    did: list[str]
    is_replaced: bool = False
    """There is another network of the same name when it is to be removed."""

    def identity(self, network: str) -> str | None:
        return "one"

    def labels(self, network: str) -> Mapping[str, str] | None:
        return None if network == "one" and self.is_replaced else self.network

    def members(self, network: str) -> tuple[str, ...]:
        return ()

    def remove(self, network: str) -> None:
        self.did.append(f"remove {network}")


@pytest.mark.parametrize(
    ("existing", "labels", "expected"),
    [
        pytest.param(
            [OURS], {"app": "k3d"}, ["disconnect autoregistry", "remove one"], id="no cluster"
        ),
        pytest.param([OURS, NODE], {"app": "k3d"}, [], id="a running cluster"),
        pytest.param([OURS, STOPPED], {"app": "k3d"}, [], id="a stopped cluster"),
        pytest.param([OURS], {}, [], id="a network of the user's"),
        pytest.param([OURS], None, [], id="a network that was removed"),
        pytest.param([], {"app": "k3d"}, [], id="no containers of ours"),
    ],
)
def test_only_networks_of_deleted_clusters_are_left(
    existing: list[Container], labels: Mapping[str, str] | None, expected: list[str]
) -> None:
    engine = FakeContainers(existing)
    networks = FakeNetworks(labels, engine.did)
    left = leave_deleted_clusters(engine, networks, ("autoregistry-backend", "autoregistry"), 0)

    assert (engine.did, bool(left)) == (expected, bool(expected))


def test_cluster_that_is_created_again_at_once_keeps_its_network() -> None:
    engine = FakeContainers([OURS], new=NODE)
    networks = FakeNetworks({"app": "k3d"}, engine.did)

    assert leave_deleted_clusters(engine, networks, ("autoregistry",), 0) == ["k3d-dev"]
    assert engine.did == ["disconnect autoregistry"]


def test_new_network_of_the_same_name_is_not_removed() -> None:
    """It is of a `k3d cluster create` that has not created a container yet."""
    engine = FakeContainers([OURS])
    networks = FakeNetworks({"app": "k3d"}, engine.did, is_replaced=True)

    assert leave_deleted_clusters(engine, networks, ("autoregistry",), 0) == ["k3d-dev"]
    assert engine.did == ["disconnect autoregistry"]
