"""Collisions of addresses on a cluster's network, and how they are resolved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from autoregistry.cluster.addresses import (
    Collision,
    collisions,
    last_free_address,
    restore_addresses,
)
from autoregistry.engine.containers import Container, Containers
from autoregistry.errors import DockerRefused
from tests.helpers.containers import NETWORK, container

TAKEN = "failed to set up container networking: Address already in use"


@dataclass
class FakeContainers(Containers):
    """Containers that record what is started and stopped."""

    existing: list[Container]
    did: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Names of containers that cannot be started."""

    def list(self, *labels: str) -> list[Container]:
        return self.existing

    def start(self, container: str) -> None:
        self.did.append(f"start {container}")
        if container in self.refused:
            raise DockerRefused(TAKEN)

    def stop(self, container: str, seconds: int = 0) -> None:
        self.did.append(f"stop {container}")


SERVER = container("server", "", "10.0.0.3", TAKEN)
AGENT = container("agent", "10.0.0.3")
OTHER = container("other", "10.0.0.2")


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        pytest.param(
            [container("server", "10.0.0.3", "10.0.0.3"), OTHER], [], id="each has its own"
        ),
        pytest.param(
            [SERVER, AGENT, OTHER],
            [Collision(NETWORK, "10.0.0.3", "server", "agent", is_by_chance=True)],
            id="an agent has a server's address",
        ),
        pytest.param(
            [container("us", "10.0.0.3", "10.0.0.3"), SERVER],
            [Collision(NETWORK, "10.0.0.3", "server", "us", is_by_chance=False)],
            id="two created with the same address",
        ),
    ],
)
def test_collisions_are_found(existing: list[Container], expected: list[Collision]) -> None:
    assert list(collisions(existing)) == expected


def test_containers_on_different_networks_do_not_collide() -> None:
    elsewhere = replace(
        AGENT, networks={"k3d-other": "10.0.0.3"}, endpoints={"k3d-other": {"IPAMConfig": None}}
    )
    assert list(collisions([SERVER, elsewhere])) == []


def test_owner_starts_while_the_holder_by_chance_is_stopped() -> None:
    engine = FakeContainers([SERVER, AGENT, OTHER])

    assert [collision.owner for collision in restore_addresses(engine)] == ["server"]
    assert engine.did == ["stop agent", "start server", "start agent"]


def test_holder_is_started_again_even_if_the_owner_cannot_start() -> None:
    engine = FakeContainers([SERVER, AGENT, OTHER], refused={"server"})

    with pytest.raises(DockerRefused):
        restore_addresses(engine)
    assert engine.did == ["stop agent", "start server", "start agent"]


@pytest.mark.parametrize(
    "existing",
    [
        pytest.param([replace(SERVER, error=""), AGENT], id="a node that the user stopped"),
        pytest.param([SERVER, OTHER], id="the address is free again"),
        pytest.param([SERVER, container("us", "10.0.0.3", "10.0.0.3")], id="not by chance"),
    ],
)
def test_other_containers_are_left_alone(existing: list[Container]) -> None:
    engine = FakeContainers(existing)

    assert (restore_addresses(engine), engine.did) == ([], [])


@pytest.mark.parametrize(
    ("subnet", "taken", "expected"),
    [
        ("10.0.0.0/24", set(), "10.0.0.253"),
        ("10.0.0.0/24", {"10.0.0.253"}, "10.0.0.252"),
        ("172.18.0.0/16", set(), "172.18.255.253"),
        ("10.0.0.0/30", {"10.0.0.1"}, ""),
        (None, set(), ""),
    ],
)
def test_our_address_is_the_last_free_one(
    subnet: str | None, taken: set[str], expected: str
) -> None:
    assert last_free_address(subnet, taken) == expected
