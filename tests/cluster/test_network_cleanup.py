"""Networks of clusters that are gone are left; those of others, and a user's own, are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from autoregistry.cluster.network_cleanup import leave_gone
from autoregistry.engine.containers import Container
from tests.helpers.containers import container

NODE = replace(container("server", "10.0.0.3"), labels={"k3d.cluster": "dev"})
STOPPED = replace(container("server", ""), labels={"k3d.cluster": "dev"})
OURS = replace(container("autoregistry", "10.0.0.253"), labels={"k3d.cluster": ""})


@dataclass
class Engine:
    """Some containers, all of them on one network."""

    there: list[Container]
    network: Mapping[str, str] | None
    did: list[str] = field(default_factory=list)
    is_made_anew: bool = False
    """Whether there is another network of the name by the time it is to be removed."""
    comes: Container | None = None
    """Who is there when it is looked again."""

    def list(self, *labels: str) -> list[Container]:
        there = self.there
        if self.comes:
            self.there = [self.comes]
        return there

    def disconnect(self, network: str, container: str) -> bool:
        self.did.append(f"disconnect {container}")
        return True

    def identity(self, network: str) -> str | None:
        return "one"

    def labels(self, network: str) -> Mapping[str, str] | None:
        return None if network == "one" and self.is_made_anew else self.network

    def members(self, network: str) -> tuple[str, ...]:
        return ()

    def remove(self, network: str) -> None:
        self.did.append(f"remove {network}")


@pytest.mark.parametrize(
    ("there", "labels", "expected"),
    [
        pytest.param([OURS], {"app": "k3d"}, ["disconnect autoregistry", "remove one"], id="gone"),
        pytest.param([OURS, NODE], {"app": "k3d"}, [], id="a cluster that runs"),
        pytest.param([OURS, STOPPED], {"app": "k3d"}, [], id="a cluster that is stopped"),
        pytest.param([OURS], {}, [], id="a network of the user's"),
        pytest.param([OURS], None, [], id="no network any more"),
        pytest.param([], {"app": "k3d"}, [], id="not ours to look after"),
    ],
)
def test_what_is_left(
    there: list[Container], labels: Mapping[str, str] | None, expected: list[str]
) -> None:
    engine = Engine(there, labels)
    left = leave_gone(engine, engine, ("autoregistry-backend", "autoregistry"), 0)

    assert (engine.did, bool(left)) == (expected, bool(expected))


def test_a_cluster_that_is_made_again_at_once_keeps_its_network() -> None:
    engine = Engine([OURS], {"app": "k3d"}, comes=NODE)

    assert leave_gone(engine, engine, ("autoregistry",), 0) == ["k3d-dev"]
    assert engine.did == ["disconnect autoregistry"]


def test_a_network_that_was_made_anew_meanwhile_is_not_the_one_that_was_left() -> None:
    """By a `k3d cluster create` which has not come to its first container."""
    engine = Engine([OURS], {"app": "k3d"}, is_made_anew=True)

    assert leave_gone(engine, engine, ("autoregistry",), 0) == ["k3d-dev"]
    assert engine.did == ["disconnect autoregistry"]
