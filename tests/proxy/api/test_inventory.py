"""The state of an image in a word: what Docker and the registry have goes first, the nodes after it."""

from __future__ import annotations

import pytest

from autoregistry.decision import LocalImage, RegistryImage, Unreachable, Verdict
from autoregistry.proxy.api.inventory import state_of
from autoregistry.proxy.api.node_inventory import NodeCopy
from autoregistry.proxy.pull.comparison import Facts
from autoregistry.proxy.pull.journal import CUT_OFF

DOCKERS, OTHER = LocalImage("sha256:new"), RegistryImage("sha256:by-hand")
IN_STEP = RegistryImage("sha256:new")
AWAY = Unreachable.DOCKER
OLD = NodeCopy("dev", "k3d-dev-server-0", "sha256:old", is_current=False)
CURRENT = NodeCopy("dev", "k3d-dev-server-1", "sha256:new", is_current=True)
NOTHING = NodeCopy("dev", "k3d-dev-server-2", "", is_current=False)
BEHIND = "an older copy is on k3d-dev-server-0"


@pytest.mark.parametrize(
    ("facts", "state", "because"),
    [
        (Facts(DOCKERS, IN_STEP, Verdict.UP_TO_DATE, None), "nodes-behind", BEHIND),
        (
            Facts(None, OTHER, Verdict.ONLY_IN_REGISTRY, None),
            "only-in-registry",
            f"{Verdict.ONLY_IN_REGISTRY.value}; {BEHIND}",
        ),
        (
            Facts(DOCKERS, OTHER, Verdict.PUSHED_BY_HAND, None),
            "by-hand",
            f"{Verdict.PUSHED_BY_HAND.value}; {BEHIND}",
        ),
        (
            Facts(AWAY, OTHER, Verdict.DOCKER_UNREACHABLE, None),
            "docker-unreachable",
            f"{Verdict.DOCKER_UNREACHABLE.value}; {BEHIND}",
        ),
        (Facts(DOCKERS, OTHER, Verdict.DIFFERS, None), "behind", Verdict.DIFFERS.value),
        (Facts(DOCKERS, None, Verdict.MISSING, None), "only-in-docker", Verdict.MISSING.value),
        (
            Facts(None, None, Verdict.ONLY_IN_REGISTRY, None),
            "nowhere",
            "neither Docker nor the registry has it",
        ),
        (Facts(DOCKERS, OTHER, Verdict.DIFFERS, CUT_OFF), "behind", Verdict.DIFFERS.value),
        (
            Facts(DOCKERS, OTHER, Verdict.DIFFERS, "the disk is full"),
            "stale",
            f"{Verdict.DIFFERS.value}, and it could not be pushed: the disk is full",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_old_copy_on_a_node_does_not_hide_what_docker_and_the_registry_have(
    facts: Facts, state: str, because: str
) -> None:
    assert state_of(facts, (CURRENT, OLD, NOTHING)) == (state, because)


def test_without_an_old_copy_the_verdict_speaks() -> None:
    facts = Facts(DOCKERS, IN_STEP, Verdict.UP_TO_DATE, None)
    assert state_of(facts, (CURRENT, NOTHING)) == ("in-step", Verdict.UP_TO_DATE.value)
