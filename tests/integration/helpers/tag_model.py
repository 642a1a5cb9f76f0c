"""A model of the rules for one tag: the image that the registry must have after builds and manual pushes.

It knows only which side changed last, and shares no code with the proxy that it checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DOCKER = "Docker's image"
"""Stands for whatever image Docker has."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A build or a manual push, whose client has ended."""

    image: str
    """DOCKER, or the digest of an image that Docker does not have."""
    is_build: bool
    has_succeeded: bool


@dataclass
class TagModel:
    """One tag. Its clients run one after the other, so the order of their changes is known.

    A client that failed may have made its change or not. `check` finds out what it can, and allows both otherwise.
    """

    docker: str = ""
    """Docker's Id of the image."""
    registry: str = DOCKER
    """The image that the registry had at the last check."""
    _changes: list[_Change] = field(default_factory=list)

    def built(self, identity: str) -> None:
        """Record a build. Docker's image replaces the registry's, whatever that was."""
        self.docker, self.registry = identity, DOCKER
        self._changes.clear()

    def build_failed(self) -> None:
        self._changes.append(_Change(DOCKER, is_build=True, has_succeeded=False))

    def pushed_manually(self, image: str, *, has_succeeded: bool) -> None:
        """Record a push by another client. Its image stays until Docker's changes."""
        self._changes.append(_Change(image, is_build=False, has_succeeded=has_succeeded))

    def expected(self) -> str:
        """Return the only image that the registry may have now, or an empty string if more than one is possible."""
        if not all(change.has_succeeded for change in self._changes):
            return ""
        image = self._changes[-1].image if self._changes else self.registry
        return self.docker if image == DOCKER else image

    def allowed(self, docker: str) -> set[str]:
        """Return the images that the registry may have, now that Docker has the image of this Id."""
        builds = sum(change.is_build for change in self._changes)
        changes = self._changes
        if (
            docker != self.docker and not builds
        ):  # a build that was counted as failed has ended late
            changes, builds = [_Change(DOCKER, is_build=True, has_succeeded=False), *changes], 1
        images = {self.registry}
        for change in changes:
            if change.is_build and docker == self.docker:
                continue
            is_certain = change.has_succeeded or (change.is_build and builds == 1)
            images = {change.image} if is_certain else images | {change.image}
        return {docker if image == DOCKER else image for image in images}

    def settle(self, docker: str, image: str) -> None:
        """Record what a check has seen: Docker's Id, and the image that the registry has."""
        self.docker, self.registry = docker, DOCKER if image == docker else image
        self._changes.clear()
