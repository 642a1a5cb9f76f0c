"""The state of an image: a difference between Docker and the registry comes before one of the nodes."""

from __future__ import annotations

import pytest

from autoregistry.decision import (
    LocalImage,
    RegistryImage,
    TagRecord,
    Unreachable,
    Unreadable,
    Verdict,
)
from autoregistry.image_state import ImageState
from autoregistry.proxy.api.inventory import state_of
from autoregistry.proxy.api.node_inventory import NodeCopy
from autoregistry.proxy.pull.comparison import Comparison
from autoregistry.proxy.pull.journal import CUT_OFF

LOCAL, OTHER = LocalImage("sha256:new"), RegistryImage("sha256:manual")
SAME = RegistryImage("sha256:new")
UNREACHABLE = Unreachable.DOCKER
OLD = NodeCopy("dev", "k3d-dev-server-0", "sha256:old", is_current=False)
CURRENT = NodeCopy("dev", "k3d-dev-server-1", "sha256:new", is_current=True)
NO_COPY = NodeCopy("dev", "k3d-dev-server-2", "", is_current=False)
OLD_COPY = "an older copy is on k3d-dev-server-0"


@pytest.mark.parametrize(
    ("facts", "state", "because"),
    [
        (
            Comparison(LOCAL, SAME, Verdict.UP_TO_DATE, TagRecord()),
            ImageState.NODES_BEHIND,
            OLD_COPY,
        ),
        (
            Comparison(None, OTHER, Verdict.ONLY_IN_REGISTRY, TagRecord()),
            ImageState.ONLY_IN_REGISTRY,
            f"{Verdict.ONLY_IN_REGISTRY.value}; {OLD_COPY}",
        ),
        (
            Comparison(LOCAL, OTHER, Verdict.PUSHED_MANUALLY, TagRecord()),
            ImageState.PUSHED_MANUALLY,
            f"{Verdict.PUSHED_MANUALLY.value}; {OLD_COPY}",
        ),
        (
            Comparison(UNREACHABLE, OTHER, Verdict.DOCKER_UNREACHABLE, TagRecord()),
            ImageState.DOCKER_UNREACHABLE,
            f"{Verdict.DOCKER_UNREACHABLE.value}; {OLD_COPY}",
        ),
        (
            Comparison(LOCAL, OTHER, Verdict.DIFFERS, TagRecord()),
            ImageState.BEHIND,
            Verdict.DIFFERS.value,
        ),
        (
            Comparison(LOCAL, None, Verdict.MISSING, TagRecord()),
            ImageState.ONLY_IN_DOCKER,
            Verdict.MISSING.value,
        ),
        (
            Comparison(None, None, Verdict.ONLY_IN_REGISTRY, TagRecord()),
            ImageState.NOWHERE,
            "neither Docker nor the registry has it",
        ),
        (
            Comparison(None, Unreadable.TAG, Verdict.ONLY_IN_REGISTRY, TagRecord()),
            ImageState.UNREADABLE,
            "Docker has no such image, and the registry cannot read this tag",
        ),
        (
            Comparison(UNREACHABLE, Unreadable.TAG, Verdict.DOCKER_UNREACHABLE, TagRecord()),
            ImageState.UNREADABLE,
            "Docker cannot be reached, and the registry cannot read this tag",
        ),
        (
            Comparison(UNREACHABLE, None, Verdict.DOCKER_UNREACHABLE, TagRecord()),
            ImageState.DOCKER_UNREACHABLE,
            Verdict.DOCKER_UNREACHABLE.value,
        ),
        (
            Comparison(LOCAL, OTHER, Verdict.DIFFERS, TagRecord(stale_because=CUT_OFF)),
            ImageState.BEHIND,
            Verdict.DIFFERS.value,
        ),
        (
            Comparison(LOCAL, OTHER, Verdict.DIFFERS, TagRecord(stale_because="the disk is full")),
            ImageState.STALE,
            f"{Verdict.DIFFERS.value}, and it could not be pushed: the disk is full",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, ImageState) else "",
)
def test_an_old_copy_on_a_node_does_not_hide_a_difference_of_docker_and_the_registry(
    facts: Comparison, state: ImageState, because: str
) -> None:
    assert state_of(facts, (CURRENT, OLD, NO_COPY)) == (state, because)


def test_without_an_old_copy_the_verdict_is_the_state() -> None:
    facts = Comparison(LOCAL, SAME, Verdict.UP_TO_DATE, TagRecord())
    assert state_of(facts, (CURRENT, NO_COPY)) == (ImageState.IN_STEP, Verdict.UP_TO_DATE.value)
