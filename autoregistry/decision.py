"""Decides whether Docker must push an image before the registry may answer. No other module decides this.

Pure: it reads facts and returns a verdict. The truth table in `tests/pure/test_decision.py` is the specification.
`proxy/pull/comparison.py` reads the facts, and `proxy/pull/handler.py` acts on the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image that Docker has under a name."""

    identity: str
    """Docker's Id. Containerd store: the digest of its manifest or index. Classic store: of its config."""
    is_index: bool = False
    children: frozenset[str] = frozenset()
    """Digests of the manifests of an index, one per platform. Empty unless they were queried."""
    is_complete: bool = True
    """False for an index of which Docker lacks a platform: Docker pushes one of the children instead."""
    tagged_at: float = 0.0
    """The time when Docker last tagged it, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """An image that the registry has under a name."""

    digest: str
    configs: frozenset[str] = frozenset()
    """Digests of its configs, including those of an index's children. Empty unless they were queried."""


class Unreachable(Enum):
    """Docker did not answer."""

    DOCKER = "docker"


class Unreadable(Enum):
    """The registry did not return the tag and did not report it as missing.

    A registry that is killed while it writes a link answers 500 for that tag from then on.
    """

    TAG = "tag"


DockerState = LocalImage | Unreachable | None
"""The state of a name in Docker. None: Docker has no such image."""
RegistryState = RegistryImage | Unreadable | None
"""The state of a tag in the registry. None: the registry has no such tag."""


NOT_READ = "unknown"
"""In a Base, in place of an Id or a digest: that side could not be read. The next image that it has counts."""


@dataclass(frozen=True, slots=True)
class Base:
    """The last state of a tag in which both sides were known to agree, or to differ on purpose."""

    docker_identity: str | None
    """Docker's Id for the name. None if Docker had no such image."""
    registry_digest: str
    manual_at: float | None = None
    """The time at which another client's push made them differ, or was found to. Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class TagRecord:
    """Earlier knowledge about a tag: the journal's row, and content that the registry has lost."""

    base: Base | None = None
    """None if the two sides were never compared, or if the journal was lost."""
    reported_at: float | None = None
    """The time at which Docker reported the name. None if it was compared since. Seconds since the epoch."""
    stale_because: str | None = None
    """The reason why Docker's newer image could not be pushed. None if no push has failed."""
    is_incomplete: bool = False
    """The registry could not return a part of an image in this repository."""

    @property
    def has_docker_news(self) -> bool:
        """Return True if Docker is known to have an image that the registry has not got yet."""
        return self.reported_at is not None or self.stale_because is not None


class Verdict(Enum):
    """The result of a comparison. The value is the sentence that users read."""

    UP_TO_DATE = "the registry has Docker's image"
    ONLY_IN_REGISTRY = "Docker has no such image; the registry's image is used"
    PUSHED_MANUALLY = (
        "pushed by another client since Docker's image last changed; the registry's image is served"
    )
    UNDECIDED = "the registry has a different image; the next pull replaces it with Docker's"
    DOCKER_UNREACHABLE = "Docker does not answer; the registry's image is used"
    KNOWN_STALE = "Docker does not answer, and is known to have a newer image"
    UNREADABLE = "the registry cannot read this tag, which another client pushed"
    MISSING = "Docker's image is missing from the registry"
    DIFFERS = "Docker's image differs from the registry's"
    REPLACES = "Docker's image replaces a different one; it is not known which is newer"
    INCOMPLETE = "the registry has lost a part of Docker's image"

    @property
    def must_push(self) -> bool:
        return self in _PUSHED


_PUSHED = (Verdict.MISSING, Verdict.DIFFERS, Verdict.REPLACES, Verdict.INCOMPLETE)


def has_same_content(local: LocalImage, registry: RegistryImage) -> bool:
    """Return True if the registry has Docker's image.

    A child of an index counts as the index only while Docker's copy of the index is incomplete.
    """
    return (
        local.identity == registry.digest
        or local.identity in registry.configs
        or (not local.is_complete and registry.digest in local.children)
    )


def decide(
    local: DockerState, registry: RegistryState, record: TagRecord, *, is_asked: bool = True
) -> Verdict:
    """Return the verdict on one tag: a three-way comparison with the last known state, as in a merge.

    `is_asked` is False for work that no client waits for. Then nothing is overwritten unless Docker's image is known
    to be the newer one.
    """
    if isinstance(local, Unreachable):
        return Verdict.KNOWN_STALE if record.has_docker_news else Verdict.DOCKER_UNREACHABLE
    if local is None:
        return Verdict.ONLY_IN_REGISTRY
    if registry is None:
        return Verdict.MISSING
    base = record.base
    has_changed = record.has_docker_news or base is None or local.identity != base.docker_identity
    if isinstance(registry, Unreadable):
        is_manual = not has_changed and base is not None and base.manual_at is not None
        return Verdict.UNREADABLE if is_manual else Verdict.MISSING
    if has_same_content(local, registry):
        return Verdict.INCOMPLETE if record.is_incomplete else Verdict.UP_TO_DATE
    if record.has_docker_news:
        return Verdict.DIFFERS
    if base is not None and not has_changed:
        is_same_registry_image = registry.digest == base.registry_digest
        # An index that Docker has in full since then: the child that the registry has no longer counts as the same.
        is_completed = is_same_registry_image and base.manual_at is None
        return Verdict.DIFFERS if is_completed else Verdict.PUSHED_MANUALLY
    if base is not None and registry.digest == base.registry_digest:
        return Verdict.DIFFERS
    return Verdict.REPLACES if is_asked else Verdict.UNDECIDED


def is_skipped_at_startup(
    local: LocalImage, registry: RegistryState, record: TagRecord, since: float
) -> bool:
    """Return True for an image that was tagged before `since` and never pushed.

    It is not pushed until a client pulls it. An image that Docker has reported, or of which a push was cut off, is not
    skipped.
    """
    is_in_registry = isinstance(registry, RegistryImage)
    return not is_in_registry and not record.has_docker_news and local.tagged_at < since
