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


@dataclass(frozen=True, slots=True)
class TagRecord:
    """Earlier knowledge about a tag: the journal's row, and content that the registry has lost."""

    pushed_manually: bool = False
    """Another client's push set the tag last."""
    docker_identity: str | None = None
    """Docker's Id for the name at the time of that manual push. None if Docker had no such image."""
    stale_because: str | None = None
    """The reason why Docker's newer image could not be pushed. None if the tag is not known to be stale."""
    is_incomplete: bool = False
    """The registry could not return a part of an image in this repository."""


class Verdict(Enum):
    """The result of a comparison. The value is the sentence that users read."""

    UP_TO_DATE = "the registry has Docker's image"
    ONLY_IN_REGISTRY = "Docker has no such image, the registry's response is used"
    PUSHED_MANUALLY = (
        "pushed manually since Docker's image last changed, the registry's image is served"
    )
    DOCKER_UNREACHABLE = "Docker cannot be reached, the registry's response is used"
    KNOWN_STALE = "Docker cannot be reached, and had a newer image when it was last reached"
    UNREADABLE = "the registry cannot read this tag, which was pushed manually"
    MISSING = "Docker's image is missing from the registry"
    DIFFERS = "Docker's image differs from the registry's"
    INCOMPLETE = "the registry has lost a part of Docker's image"

    @property
    def must_push(self) -> bool:
        return self in (Verdict.MISSING, Verdict.DIFFERS, Verdict.INCOMPLETE)


def has_same_content(local: LocalImage, registry: RegistryImage) -> bool:
    """Return True if the registry has Docker's image.

    A child of an index counts as the index only while Docker's copy of the index is incomplete.
    """
    return (
        local.identity == registry.digest
        or local.identity in registry.configs
        or (not local.is_complete and registry.digest in local.children)
    )


def decide(local: DockerState, registry: RegistryState, record: TagRecord) -> Verdict:
    """Return the verdict on one tag."""
    if isinstance(local, Unreachable):
        return Verdict.KNOWN_STALE if record.stale_because else Verdict.DOCKER_UNREACHABLE
    if local is None:
        return Verdict.ONLY_IN_REGISTRY
    if registry is None:
        return Verdict.MISSING
    is_kept = record.pushed_manually and record.docker_identity == local.identity
    if isinstance(registry, Unreadable):
        return Verdict.UNREADABLE if is_kept else Verdict.MISSING
    if has_same_content(local, registry):
        return Verdict.INCOMPLETE if record.is_incomplete else Verdict.UP_TO_DATE
    return Verdict.PUSHED_MANUALLY if is_kept else Verdict.DIFFERS


def is_skipped_at_startup(
    local: LocalImage, registry: RegistryState, stale_because: str | None, since: float
) -> bool:
    """Return True for an image that was tagged before `since` and never pushed.

    It is not pushed until a client pulls it. A push that was cut off has left `stale_because`, so it is not skipped.
    """
    is_in_registry = isinstance(registry, RegistryImage)
    return not is_in_registry and stale_because is None and local.tagged_at < since
