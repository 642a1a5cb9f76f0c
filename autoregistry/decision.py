"""Must Docker push this image before the registry may answer? Decided here and nowhere else.

Pure: facts in, verdict out. The truth table is `tests/pure/test_decision.py`. Who gathers the facts is
`proxy/pull/comparison.py`; what is done with the verdict stands in `proxy/pull/handler.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class LocalImage:
    """What Docker has under a name."""

    identity: str
    """Docker's Id. Containerd store: the digest of its manifest or index. Classic store: of its config."""
    is_index: bool = False
    children: frozenset[str] = frozenset()
    """Digests of the platforms' manifests of an index, where they were asked for."""
    is_complete: bool = True
    """False for an index of which Docker lacks a platform: its push ends as one of the children."""
    tagged_at: float = 0.0
    """When Docker last tagged it, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """What the registry has under a name."""

    digest: str
    configs: frozenset[str] = frozenset()
    """Digests of the configs behind it, of an index's children too, where they were asked for."""


class Unreachable(Enum):
    """Docker did not answer."""

    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class TagRecord:
    """What the journal knows about a tag."""

    by_hand: bool = False
    """Somebody else's push set it, not ours."""
    docker_had: str | None = None
    """Docker's identity of that name at the moment of that push; None if Docker had none."""
    stale_because: str | None = None
    """Docker had another image that could not be pushed: why."""
    incomplete: bool = False
    """A client asked for a part of what this repository's tags name, and the registry could not give it."""


class Verdict(Enum):
    """What the facts say; the value is the sentence that people read."""

    UP_TO_DATE = "the registry has Docker's image"
    ONLY_IN_REGISTRY = "not in Docker, the registry's answer stands"
    PUSHED_BY_HAND = "pushed by hand since Docker's image last changed, the registry's is served"
    DOCKER_UNREACHABLE = "Docker cannot be asked, the registry's answer stands"
    KNOWN_STALE = "Docker cannot be asked, and was last known to have a newer image"
    MISSING = "Docker's image is missing from the registry"
    DIFFERS = "Docker's image differs from the registry's"
    INCOMPLETE = "the registry has lost a part of Docker's image"

    @property
    def must_push(self) -> bool:
        return self in (Verdict.MISSING, Verdict.DIFFERS, Verdict.INCOMPLETE)


def has_same_content(local: LocalImage, registry: RegistryImage) -> bool:
    """Whether the registry has Docker's image. An index that Docker has in full replaces a single child."""
    return (
        local.identity == registry.digest
        or local.identity in registry.configs
        or (not local.is_complete and registry.digest in local.children)
    )


def decide(
    local: LocalImage | Unreachable | None, registry: RegistryImage | None, memory: TagRecord
) -> Verdict:
    """The verdict on one tag. None: that store has no such image."""
    if isinstance(local, Unreachable):
        return Verdict.KNOWN_STALE if memory.stale_because else Verdict.DOCKER_UNREACHABLE
    if local is None:
        return Verdict.ONLY_IN_REGISTRY
    if registry is None:
        return Verdict.MISSING
    if has_same_content(local, registry):
        return Verdict.INCOMPLETE if memory.incomplete else Verdict.UP_TO_DATE
    if memory.by_hand and memory.docker_had == local.identity:
        return Verdict.PUSHED_BY_HAND
    return Verdict.DIFFERS


def is_skipped_at_startup(
    local: LocalImage, registry: RegistryImage | None, stale_because: str | None, since: float
) -> bool:
    """Whether nobody has to have it yet: while nobody asks, what is older and was never pushed stays in Docker.

    A push that was cut off has left the reason why the tag is stale.
    """
    return registry is None and stale_because is None and local.tagged_at < since
