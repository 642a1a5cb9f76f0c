"""Who has whose address on a cluster's network, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from autoregistry.cluster.addresses import Collision, collisions, far_address, give_back
from autoregistry.engine.containers import Container
from autoregistry.errors import DockerRefused
from tests.helpers.containers import NETWORK, container

TAKEN = "failed to set up container networking: Address already in use"


@dataclass
class Engine:
    """Implements what giving addresses back needs of the engine."""

    there: list[Container]
    did: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Who cannot be started."""

    def list(self, *labels: str) -> list[Container]:
        return self.there

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
    ("there", "expected"),
    [
        pytest.param(
            [container("server", "10.0.0.3", "10.0.0.3"), OTHER], [], id="everybody has one"
        ),
        pytest.param(
            [SERVER, AGENT, OTHER],
            [Collision(NETWORK, "10.0.0.3", "server", "agent", is_by_chance=True)],
            id="Docker gave a server's to an agent",
        ),
        pytest.param(
            [container("us", "10.0.0.3", "10.0.0.3"), SERVER],
            [Collision(NETWORK, "10.0.0.3", "server", "us", is_by_chance=False)],
            id="two were made with the same",
        ),
    ],
)
def test_who_collides(there: list[Container], expected: list[Collision]) -> None:
    assert list(collisions(there)) == expected


def test_two_on_other_networks_do_not_collide() -> None:
    elsewhere = replace(
        AGENT, networks={"k3d-other": "10.0.0.3"}, endpoints={"k3d-other": {"IPAMConfig": None}}
    )
    assert list(collisions([SERVER, elsewhere])) == []


def test_the_one_by_chance_makes_room() -> None:
    engine = Engine([SERVER, AGENT, OTHER])

    assert [collision.owner for collision in give_back(engine)] == ["server"]
    assert engine.did == ["stop agent", "start server", "start agent"]


def test_who_made_room_is_started_again_though_the_other_cannot() -> None:
    engine = Engine([SERVER, AGENT, OTHER], refused={"server"})

    with pytest.raises(DockerRefused):
        give_back(engine)
    assert engine.did == ["stop agent", "start server", "start agent"]


@pytest.mark.parametrize(
    "there",
    [
        pytest.param([replace(SERVER, error=""), AGENT], id="a node somebody stopped"),
        pytest.param([SERVER, OTHER], id="its address is free by now"),
        pytest.param([SERVER, container("us", "10.0.0.3", "10.0.0.3")], id="not by chance"),
    ],
)
def test_nobody_else_is_touched(there: list[Container]) -> None:
    engine = Engine(there)

    assert (give_back(engine), engine.did) == ([], [])


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
def test_ours_are_at_the_far_end(subnet: str | None, taken: set[str], expected: str) -> None:
    assert far_address(subnet, taken) == expected
