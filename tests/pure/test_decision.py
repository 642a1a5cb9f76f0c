"""The truth table of "must Docker push this image first?" It is the specification."""

from __future__ import annotations

from itertools import product

import pytest

from autoregistry.decision import (
    LocalImage,
    RegistryImage,
    TagRecord,
    Unreachable,
    Verdict,
    decide,
    has_same_content,
    is_skipped_at_startup,
)

AWAY = Unreachable.DOCKER
OURS, OLD, CHILD = "sha256:ours", "sha256:old", "sha256:child"
LOCAL = LocalImage(OURS)
INDEX = LocalImage(OURS, is_index=True, children=frozenset({CHILD}))
PARTIAL = LocalImage(OURS, is_index=True, children=frozenset({CHILD}), is_complete=False)
NOTHING = TagRecord()
STALE = TagRecord(stale_because="disk full")
LOST_A_PART = TagRecord(incomplete=True)
HAND_OVER_OURS = TagRecord(by_hand=True, docker_had=OURS)
HAND_OVER_OLD = TagRecord(by_hand=True, docker_had=OLD)
HAND_OVER_NONE = TagRecord(by_hand=True, docker_had=None)
HAND_AND_LOST = TagRecord(by_hand=True, docker_had=OURS, incomplete=True)


@pytest.mark.parametrize(
    ("local", "registry", "memory", "expected"),
    [
        # Docker             the registry                    the journal      verdict
        (AWAY,               None,                           NOTHING,         Verdict.DOCKER_UNREACHABLE),
        (AWAY,               RegistryImage(OLD),             NOTHING,         Verdict.DOCKER_UNREACHABLE),
        (AWAY,               RegistryImage(OLD),             HAND_OVER_OURS,  Verdict.DOCKER_UNREACHABLE),
        (AWAY,               RegistryImage(OLD),             STALE,           Verdict.KNOWN_STALE),
        (AWAY,               None,                           STALE,           Verdict.KNOWN_STALE),
        (None,               None,                           NOTHING,         Verdict.ONLY_IN_REGISTRY),
        (None,               RegistryImage(OLD),             NOTHING,         Verdict.ONLY_IN_REGISTRY),
        (None,               RegistryImage(OLD),             STALE,           Verdict.ONLY_IN_REGISTRY),
        (LOCAL,              None,                           NOTHING,         Verdict.MISSING),
        (LOCAL,              None,                           HAND_OVER_OURS,  Verdict.MISSING),
        (LOCAL,              RegistryImage(OURS),            NOTHING,         Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OURS),            STALE,           Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OURS),            HAND_OVER_OURS,  Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OURS),            LOST_A_PART,     Verdict.INCOMPLETE),
        (None,               RegistryImage(OURS),            LOST_A_PART,     Verdict.ONLY_IN_REGISTRY),
        (LOCAL,              RegistryImage(OLD),             LOST_A_PART,     Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             NOTHING,         Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             STALE,           Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             HAND_OVER_OURS,  Verdict.PUSHED_BY_HAND),
        (LOCAL,              RegistryImage(OLD),             HAND_OVER_OLD,   Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             HAND_OVER_NONE,  Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             HAND_AND_LOST,   Verdict.PUSHED_BY_HAND),
        # classic store: Docker's Id is the digest of a config behind the registry's manifest or index
        (LOCAL,              RegistryImage(OLD, frozenset({OURS})),       NOTHING, Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OLD, frozenset({OURS, OLD})),  NOTHING, Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OLD, frozenset({OLD})),        NOTHING, Verdict.DIFFERS),
        # containerd store: an index, complete in Docker or not
        (PARTIAL,            RegistryImage(CHILD),           NOTHING,         Verdict.UP_TO_DATE),
        (PARTIAL,            RegistryImage(OURS),            NOTHING,         Verdict.UP_TO_DATE),
        (PARTIAL,            RegistryImage(OLD),             NOTHING,         Verdict.DIFFERS),
        (INDEX,              RegistryImage(CHILD),           NOTHING,         Verdict.DIFFERS),
        (INDEX,              RegistryImage(OURS),            NOTHING,         Verdict.UP_TO_DATE),
    ],
)  # fmt: skip
def test_the_truth_table(
    local: LocalImage | Unreachable | None,
    registry: RegistryImage | None,
    memory: TagRecord,
    expected: Verdict,
) -> None:
    assert expected is decide(local, registry, memory)


def test_docker_pushes_only_what_it_has_and_the_registry_has_not() -> None:
    """Whatever the facts: exactly when Docker has another image, or the same one whole, and no hand is respected."""
    locals_ = (AWAY, None, LOCAL, INDEX, PARTIAL)
    registries = (None, RegistryImage(OURS), RegistryImage(OLD), RegistryImage(CHILD))
    memories = (
        NOTHING,
        STALE,
        LOST_A_PART,
        HAND_OVER_OURS,
        HAND_OVER_OLD,
        HAND_OVER_NONE,
        HAND_AND_LOST,
    )
    for local, registry, memory in product(locals_, registries, memories):
        has_other = isinstance(local, LocalImage) and not (
            registry and has_same_content(local, registry)
        )
        has_more = isinstance(local, LocalImage) and not has_other and memory.incomplete
        respected = has_other and registry is not None and memory.docker_had == OURS

        expected = (has_other or has_more) and not respected
        assert decide(local, registry, memory).must_push == expected, (local, registry, memory)


@pytest.mark.parametrize(
    ("tagged_at", "registry", "stale_because", "expected"),
    [
        (99.0, None, None, True),
        (101.0, None, None, False),
        (99.0, RegistryImage(OLD), None, False),
        (99.0, None, "its push was cut off", False),
    ],
    ids=[
        "old, and never pushed",
        "built meanwhile",
        "the registry has another",
        "its push was cut off",
    ],
)
def test_what_is_left_alone_while_nobody_asks(
    tagged_at: float, registry: RegistryImage | None, stale_because: str | None, *, expected: bool
) -> None:
    local = LocalImage(OURS, tagged_at=tagged_at)

    assert is_skipped_at_startup(local, registry, stale_because, since=100.0) is expected
