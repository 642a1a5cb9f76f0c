"""The truth table of "must Docker push this image first?" It is the specification."""

from __future__ import annotations

from itertools import product

import pytest

from autoregistry.decision import (
    Base,
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
    # Docker   the registry  news   base     asked  incomplete  verdict
    ("away",   ANY,          False, ANY,     ANY,   ANY,        Verdict.DOCKER_UNREACHABLE),
    ("away",   ANY,          True,  ANY,     ANY,   ANY,        Verdict.KNOWN_STALE),
    ("none",   ANY,          ANY,   ANY,     ANY,   ANY,        Verdict.ONLY_IN_REGISTRY),
    ("image",  "none",       ANY,   ANY,     ANY,   ANY,        Verdict.MISSING),
    # unreadable: a push repairs it, but does not overwrite a manual push
    ("image",  "unreadable", False, "manual",ANY,   ANY,        Verdict.UNREADABLE),
    ("image",  "unreadable", True,  "manual",ANY,   ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   "agreed",ANY,   ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   "index", ANY,   ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   "docker",ANY,   ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   "both",  ANY,   ANY,        Verdict.MISSING),
    ("image",  "unreadable", ANY,   "none",  ANY,   ANY,        Verdict.MISSING),
    ("image",  "same",       ANY,   ANY,     ANY,   False,      Verdict.UP_TO_DATE),
    ("image",  "same",       ANY,   ANY,     ANY,   True,       Verdict.INCOMPLETE),
    ("image",  "other",      True,  ANY,     ANY,   ANY,        Verdict.DIFFERS),
    ("image",  "other",      False, "manual",ANY,   ANY,        Verdict.PUSHED_MANUALLY),
    ("image",  "other",      False, "agreed",ANY,   ANY,        Verdict.PUSHED_MANUALLY),
    ("image",  "other",      False, "index", ANY,   ANY,        Verdict.DIFFERS),
    ("image",  "other",      False, "docker",ANY,   ANY,        Verdict.DIFFERS),
    ("image",  "other",      False, "both",  True,  ANY,        Verdict.REPLACES),
    ("image",  "other",      False, "both",  False, ANY,        Verdict.UNDECIDED),
    ("image",  "other",      False, "none",  True,  ANY,        Verdict.REPLACES),
    ("image",  "other",      False, "none",  False, ANY,        Verdict.UNDECIDED),
]  # fmt: skip
"""All rules. "news": Docker has reported the name since, or a push of its image has failed. "base", the last known
state: "none", or since then only Docker has changed ("docker"), both have ("both"), or Docker has not; then the base
was set by a manual push ("manual") or by an agreement: only the registry has changed ("agreed"), or neither, and
Docker has got the rest of an index ("index")."""

IS_SAME = {
    # classic store: Docker's Id is the digest of a config behind the registry's manifest or index
    (LOCAL, IN_CONFIG), (INDEX, IN_CONFIG), (PARTIAL, IN_CONFIG),
    # containerd store: the digest of the manifest or index
    (LOCAL, RegistryImage(OURS)), (INDEX, RegistryImage(OURS)), (PARTIAL, RegistryImage(OURS)),
    # a push of an index of which Docker lacks a platform ends as one of its children
    (PARTIAL, RegistryImage(CHILD)),
}  # fmt: skip


def _base_kind(local: LocalImage, registry: RegistryState, base: Base | None) -> str:
    if base is None:
        return "none"
    is_same = isinstance(registry, RegistryImage) and registry.digest == base.registry_digest
    if base.docker_identity == local.identity:
        if base.manual_at is not None:
            return "manual"
        return "index" if is_same else "agreed"
    return "docker" if is_same else "both"


def _rule(
    local: DockerState, registry: RegistryState, record: TagRecord, *, is_asked: bool
) -> Verdict:
    """Return the verdict of the one rule that applies."""
    docker = "image" if isinstance(local, LocalImage) else "none" if local is None else "away"
    if isinstance(registry, RegistryImage):
        remote = "same" if (local, registry) in IS_SAME else "other"
    else:
        remote = "none" if registry is None else "unreadable"
    facts = (
        docker,
        remote,
        record.reported_at is not None or record.stale_because is not None,
        _base_kind(local, registry, record.base) if isinstance(local, LocalImage) else "",
        is_asked,
        record.is_incomplete,
    )
    (verdict,) = (
        rule[-1] for rule in RULES if all(r in (ANY, f) for r, f in zip(rule, facts, strict=False))
    )
    return verdict


BASES = [None] + [
    Base(identity, digest, manual_at)
    for identity in (None, OURS, OLD)
    for digest in (OURS, OLD, CHILD)
    for manual_at in (None, 50.0)
]


@pytest.mark.parametrize("local", [AWAY, None, LOCAL, INDEX, PARTIAL])
@pytest.mark.parametrize(
    "registry",
    [None, BROKEN, RegistryImage(OURS), RegistryImage(OLD), RegistryImage(CHILD), IN_CONFIG],
)
def test_exactly_one_rule_applies_to_every_combination_of_facts(
    local: DockerState, registry: RegistryState
) -> None:
    for base, reported_at, stale, incomplete, is_asked in product(
        BASES, (None, 60.0), (None, "disk full"), (False, True), (False, True)
    ):
        record = TagRecord(base, reported_at, stale, incomplete)
        expected = _rule(local, registry, record, is_asked=is_asked)

        assert expected is decide(local, registry, record, is_asked=is_asked), record


NOTHING = TagRecord()
STALE = TagRecord(stale_because="disk full")
REPORTED = TagRecord(reported_at=60.0)
LOST_A_PART = TagRecord(is_incomplete=True)
AGREED = TagRecord(Base(OURS, OURS))
AGREED_OLD = TagRecord(Base(OLD, OLD))
AGREED_INDEX = TagRecord(Base(OURS, CHILD))
AGREED_CHILD = TagRecord(Base(CHILD, CHILD))
OVER_OURS = TagRecord(Base(OURS, OLD, manual_at=50.0))
OVER_OLD = TagRecord(Base(CHILD, OLD, manual_at=50.0))
OVER_NONE = TagRecord(Base(None, OLD, manual_at=50.0))
OVER_AND_LOST = TagRecord(Base(OURS, OLD, manual_at=50.0), is_incomplete=True)
OVER_AND_REPORTED = TagRecord(Base(OURS, OLD, manual_at=50.0), reported_at=60.0)


@pytest.mark.parametrize(
    ("local", "registry", "record", "asked", "otherwise"),
    [
        # Docker   the registry           known earlier     when a client asks           when no client asks
        (AWAY,     None,                  NOTHING,          Verdict.DOCKER_UNREACHABLE,  Verdict.DOCKER_UNREACHABLE),
        (AWAY,     RegistryImage(OLD),    NOTHING,          Verdict.DOCKER_UNREACHABLE,  Verdict.DOCKER_UNREACHABLE),
        (AWAY,     RegistryImage(OLD),    OVER_OURS,        Verdict.DOCKER_UNREACHABLE,  Verdict.DOCKER_UNREACHABLE),
        (AWAY,     BROKEN,                NOTHING,          Verdict.DOCKER_UNREACHABLE,  Verdict.DOCKER_UNREACHABLE),
        (AWAY,     RegistryImage(OLD),    STALE,            Verdict.KNOWN_STALE,         Verdict.KNOWN_STALE),
        (AWAY,     RegistryImage(OLD),    REPORTED,         Verdict.KNOWN_STALE,         Verdict.KNOWN_STALE),
        (AWAY,     None,                  STALE,            Verdict.KNOWN_STALE,         Verdict.KNOWN_STALE),
        (None,     None,                  NOTHING,          Verdict.ONLY_IN_REGISTRY,    Verdict.ONLY_IN_REGISTRY),
        (None,     BROKEN,                NOTHING,          Verdict.ONLY_IN_REGISTRY,    Verdict.ONLY_IN_REGISTRY),
        (None,     RegistryImage(OLD),    STALE,            Verdict.ONLY_IN_REGISTRY,    Verdict.ONLY_IN_REGISTRY),
        (LOCAL,    None,                  NOTHING,          Verdict.MISSING,             Verdict.MISSING),
        (LOCAL,    None,                  OVER_OURS,        Verdict.MISSING,             Verdict.MISSING),
        (LOCAL,    BROKEN,                NOTHING,          Verdict.MISSING,             Verdict.MISSING),
        (LOCAL,    BROKEN,                OVER_OURS,        Verdict.UNREADABLE,          Verdict.UNREADABLE),
        (LOCAL,    BROKEN,                OVER_OLD,         Verdict.MISSING,             Verdict.MISSING),
        (LOCAL,    RegistryImage(OURS),   NOTHING,          Verdict.UP_TO_DATE,          Verdict.UP_TO_DATE),
        (LOCAL,    RegistryImage(OURS),   STALE,            Verdict.UP_TO_DATE,          Verdict.UP_TO_DATE),
        (LOCAL,    RegistryImage(OURS),   REPORTED,         Verdict.UP_TO_DATE,          Verdict.UP_TO_DATE),
        (LOCAL,    RegistryImage(OURS),   LOST_A_PART,      Verdict.INCOMPLETE,          Verdict.INCOMPLETE),
        # only Docker has changed
        (LOCAL,    RegistryImage(OLD),    AGREED_OLD,       Verdict.DIFFERS,             Verdict.DIFFERS),
        (LOCAL,    RegistryImage(OLD),    OVER_OLD,         Verdict.DIFFERS,             Verdict.DIFFERS),
        (LOCAL,    RegistryImage(OLD),    OVER_NONE,        Verdict.DIFFERS,             Verdict.DIFFERS),
        # only the registry has changed: a push that did not pass through the proxy counts as well
        (LOCAL,    RegistryImage(OLD),    AGREED,           Verdict.PUSHED_MANUALLY,     Verdict.PUSHED_MANUALLY),
        (LOCAL,    RegistryImage(OLD),    OVER_OURS,        Verdict.PUSHED_MANUALLY,     Verdict.PUSHED_MANUALLY),
        (LOCAL,    RegistryImage(CHILD),  OVER_OURS,        Verdict.PUSHED_MANUALLY,     Verdict.PUSHED_MANUALLY),
        (LOCAL,    RegistryImage(OLD),    OVER_AND_LOST,    Verdict.PUSHED_MANUALLY,     Verdict.PUSHED_MANUALLY),
        # Docker has reported the name again since: its image wins
        (LOCAL,    RegistryImage(OLD),    OVER_AND_REPORTED, Verdict.DIFFERS,            Verdict.DIFFERS),
        # Docker has got the rest of an index, of which the registry has one child
        (INDEX,    RegistryImage(CHILD),  AGREED_INDEX,     Verdict.DIFFERS,             Verdict.DIFFERS),
        # both have changed, or nothing is known: nothing is overwritten until a client asks
        (LOCAL,    RegistryImage(OLD),    AGREED_CHILD,     Verdict.REPLACES,            Verdict.UNDECIDED),
        (LOCAL,    RegistryImage(OLD),    NOTHING,          Verdict.REPLACES,            Verdict.UNDECIDED),
        (LOCAL,    RegistryImage(OLD),    LOST_A_PART,      Verdict.REPLACES,            Verdict.UNDECIDED),
        (LOCAL,    RegistryImage(OLD),    STALE,            Verdict.DIFFERS,             Verdict.DIFFERS),
        (LOCAL,    RegistryImage(OLD),    REPORTED,         Verdict.DIFFERS,             Verdict.DIFFERS),
        # classic store: Docker's Id is the digest of a config behind the registry's manifest or index
        (LOCAL,    RegistryImage(OLD, frozenset({OURS})),      NOTHING, Verdict.UP_TO_DATE, Verdict.UP_TO_DATE),
        (LOCAL,    RegistryImage(OLD, frozenset({OURS, OLD})), NOTHING, Verdict.UP_TO_DATE, Verdict.UP_TO_DATE),
        (LOCAL,    RegistryImage(OLD, frozenset({OLD})),       NOTHING, Verdict.REPLACES,   Verdict.UNDECIDED),
        # containerd store: an index, complete in Docker or not
        (PARTIAL,  RegistryImage(CHILD),  NOTHING,          Verdict.UP_TO_DATE,          Verdict.UP_TO_DATE),
        (PARTIAL,  RegistryImage(OURS),   NOTHING,          Verdict.UP_TO_DATE,          Verdict.UP_TO_DATE),
        (PARTIAL,  RegistryImage(OLD),    AGREED_OLD,       Verdict.DIFFERS,             Verdict.DIFFERS),
        (INDEX,    RegistryImage(CHILD),  AGREED_CHILD,     Verdict.DIFFERS,             Verdict.DIFFERS),
        (INDEX,    RegistryImage(OURS),   NOTHING,          Verdict.UP_TO_DATE,          Verdict.UP_TO_DATE),
    ],
)  # fmt: skip
def test_truth_table(
    local: DockerState,
    registry: RegistryState,
    record: TagRecord,
    asked: Verdict,
    otherwise: Verdict,
) -> None:
    assert asked is decide(local, registry, record, is_asked=True)
    assert otherwise is decide(local, registry, record, is_asked=False)


def test_docker_pushes_only_what_the_registry_lacks() -> None:
    pushed = {verdict for verdict in Verdict if verdict.must_push}

    assert {Verdict.MISSING, Verdict.DIFFERS, Verdict.REPLACES, Verdict.INCOMPLETE} == pushed


@pytest.mark.parametrize(
    ("tagged_at", "registry", "record", "expected"),
    [
        pytest.param(99.0, None, NOTHING, True, id="old, and never pushed"),
        pytest.param(99.0, BROKEN, NOTHING, True, id="old, and the registry cannot read it"),
        pytest.param(101.0, None, NOTHING, False, id="built since then"),
        pytest.param(99.0, RegistryImage(OLD), NOTHING, False, id="the registry has another"),
        pytest.param(99.0, None, STALE, False, id="its push was cut off"),
        pytest.param(99.0, None, REPORTED, False, id="Docker has reported it"),
    ],
)
def test_old_image_that_was_never_pushed_is_skipped_at_startup(
    tagged_at: float, registry: RegistryState, record: TagRecord, *, expected: bool
) -> None:
    local = LocalImage(OURS, tagged_at=tagged_at)

    assert is_skipped_at_startup(local, registry, record, since=100.0) is expected
