"""The truth table of "must Docker push this image first?" It is the specification."""

from __future__ import annotations

from itertools import product

import pytest

from autoregistry.decision import (
    DockerState,
    LocalImage,
    RegistryImage,
    RegistryState,
    TagRecord,
    Unreachable,
    Unreadable,
    Verdict,
    decide,
    is_skipped_at_startup,
)

AWAY, BROKEN = Unreachable.DOCKER, Unreadable.TAG
OURS, OLD, CHILD = "sha256:ours", "sha256:old", "sha256:child"
LOCAL = LocalImage(OURS)
INDEX = LocalImage(OURS, is_index=True, children=frozenset({CHILD}))
PARTIAL = LocalImage(OURS, is_index=True, children=frozenset({CHILD}), is_complete=False)
IN_CONFIG = RegistryImage(OLD, frozenset({OURS, OLD}))

ANY = None
RULES = [
    # Docker   the registry  stale  kept   incomplete  verdict
    ("away",   ANY,          False, ANY,   ANY,        Verdict.DOCKER_UNREACHABLE),
    ("away",   ANY,          True,  ANY,   ANY,        Verdict.KNOWN_STALE),
    ("none",   ANY,          ANY,   ANY,   ANY,        Verdict.ONLY_IN_REGISTRY),
    ("image",  "none",       ANY,   ANY,   ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   False, ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   True,  ANY,        Verdict.UNREADABLE),
    ("image",  "same",       ANY,   ANY,   False,      Verdict.UP_TO_DATE),
    ("image",  "same",       ANY,   ANY,   True,       Verdict.INCOMPLETE),
    ("image",  "other",      ANY,   False, ANY,        Verdict.DIFFERS),
    ("image",  "other",      ANY,   True,  ANY,        Verdict.PUSHED_MANUALLY),
]  # fmt: skip
"""All rules. "kept": pushed manually, and Docker has the same image as at that moment."""

IS_SAME = {
    # classic store: Docker's Id is the digest of a config behind the registry's manifest or index
    (LOCAL, IN_CONFIG), (INDEX, IN_CONFIG), (PARTIAL, IN_CONFIG),
    # containerd store: the digest of the manifest or index
    (LOCAL, RegistryImage(OURS)), (INDEX, RegistryImage(OURS)), (PARTIAL, RegistryImage(OURS)),
    # a push of an index of which Docker lacks a platform ends as one of its children
    (PARTIAL, RegistryImage(CHILD)),
}  # fmt: skip


def _rule(local: DockerState, registry: RegistryState, record: TagRecord) -> Verdict:
    """Return the verdict of the one rule that applies."""
    docker = "image" if isinstance(local, LocalImage) else "none" if local is None else "away"
    if isinstance(registry, RegistryImage):
        remote = "same" if (local, registry) in IS_SAME else "other"
    else:
        remote = "none" if registry is None else "unreadable"
    facts = (
        docker,
        remote,
        record.stale_because is not None,
        record.pushed_manually and record.docker_identity == OURS,
        record.is_incomplete,
    )
    (verdict,) = (
        rule[-1] for rule in RULES if all(r in (ANY, f) for r, f in zip(rule, facts, strict=False))
    )
    return verdict


@pytest.mark.parametrize("local", [AWAY, None, LOCAL, INDEX, PARTIAL])
@pytest.mark.parametrize(
    "registry",
    [None, BROKEN, RegistryImage(OURS), RegistryImage(OLD), RegistryImage(CHILD), IN_CONFIG],
)
def test_exactly_one_rule_applies_to_every_combination_of_facts(
    local: DockerState, registry: RegistryState
) -> None:
    for manually, identity, stale, incomplete in product(
        (False, True), (None, OURS, OLD), (None, "disk full"), (False, True)
    ):
        record = TagRecord(manually, identity, stale, incomplete)

        assert _rule(local, registry, record) is decide(local, registry, record), record


NOTHING = TagRecord()
STALE = TagRecord(stale_because="disk full")
LOST_A_PART = TagRecord(is_incomplete=True)
OVER_OURS = TagRecord(pushed_manually=True, docker_identity=OURS)
OVER_OLD = TagRecord(pushed_manually=True, docker_identity=OLD)
OVER_NONE = TagRecord(pushed_manually=True, docker_identity=None)
OVER_AND_LOST = TagRecord(pushed_manually=True, docker_identity=OURS, is_incomplete=True)


@pytest.mark.parametrize(
    ("local", "registry", "record", "expected"),
    [
        # Docker             the registry                    known earlier    verdict
        (AWAY,               None,                           NOTHING,         Verdict.DOCKER_UNREACHABLE),
        (AWAY,               RegistryImage(OLD),             NOTHING,         Verdict.DOCKER_UNREACHABLE),
        (AWAY,               RegistryImage(OLD),             OVER_OURS,       Verdict.DOCKER_UNREACHABLE),
        (AWAY,               BROKEN,                         NOTHING,         Verdict.DOCKER_UNREACHABLE),
        (AWAY,               RegistryImage(OLD),             STALE,           Verdict.KNOWN_STALE),
        (AWAY,               None,                           STALE,           Verdict.KNOWN_STALE),
        (AWAY,               BROKEN,                         STALE,           Verdict.KNOWN_STALE),
        (None,               None,                           NOTHING,         Verdict.ONLY_IN_REGISTRY),
        (None,               BROKEN,                         NOTHING,         Verdict.ONLY_IN_REGISTRY),
        (None,               RegistryImage(OLD),             NOTHING,         Verdict.ONLY_IN_REGISTRY),
        (None,               RegistryImage(OLD),             STALE,           Verdict.ONLY_IN_REGISTRY),
        (LOCAL,              None,                           NOTHING,         Verdict.MISSING),
        (LOCAL,              None,                           OVER_OURS,       Verdict.MISSING),
        # unreadable: a push repairs it, but does not overwrite a manual push
        (LOCAL,              BROKEN,                         NOTHING,         Verdict.MISSING),
        (LOCAL,              BROKEN,                         OVER_OURS,       Verdict.UNREADABLE),
        (LOCAL,              BROKEN,                         OVER_OLD,        Verdict.MISSING),
        (LOCAL,              BROKEN,                         OVER_NONE,       Verdict.MISSING),
        (LOCAL,              RegistryImage(OURS),            NOTHING,         Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OURS),            STALE,           Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OURS),            OVER_OURS,       Verdict.UP_TO_DATE),
        (LOCAL,              RegistryImage(OURS),            LOST_A_PART,     Verdict.INCOMPLETE),
        (None,               RegistryImage(OURS),            LOST_A_PART,     Verdict.ONLY_IN_REGISTRY),
        (LOCAL,              RegistryImage(OLD),             LOST_A_PART,     Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             NOTHING,         Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             STALE,           Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             OVER_OURS,       Verdict.PUSHED_MANUALLY),
        (LOCAL,              RegistryImage(OLD),             OVER_OLD,        Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             OVER_NONE,       Verdict.DIFFERS),
        (LOCAL,              RegistryImage(OLD),             OVER_AND_LOST,   Verdict.PUSHED_MANUALLY),
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
def test_truth_table(
    local: DockerState, registry: RegistryState, record: TagRecord, expected: Verdict
) -> None:
    assert expected is decide(local, registry, record)


def test_docker_pushes_only_what_the_registry_lacks() -> None:
    pushed = {verdict for verdict in Verdict if verdict.must_push}

    assert {Verdict.MISSING, Verdict.DIFFERS, Verdict.INCOMPLETE} == pushed


@pytest.mark.parametrize(
    ("tagged_at", "registry", "stale_because", "expected"),
    [
        pytest.param(99.0, None, None, True, id="old, and never pushed"),
        pytest.param(99.0, BROKEN, None, True, id="old, and the registry cannot read it"),
        pytest.param(101.0, None, None, False, id="built since then"),
        pytest.param(99.0, RegistryImage(OLD), None, False, id="the registry has another"),
        pytest.param(99.0, None, "its push was cut off", False, id="its push was cut off"),
    ],
)
def test_old_image_that_was_never_pushed_is_skipped_at_startup(
    tagged_at: float, registry: RegistryState, stale_because: str | None, *, expected: bool
) -> None:
    local = LocalImage(OURS, tagged_at=tagged_at)

    assert is_skipped_at_startup(local, registry, stale_because, since=100.0) is expected
