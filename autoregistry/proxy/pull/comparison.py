"""Reads what Docker and the registry have under one name. `decision.py` gives the verdict on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from autoregistry.decision import (
    DockerState,
    LocalImage,
    RegistryImage,
    RegistryState,
    TagRecord,
    Unreachable,
    Verdict,
)
from autoregistry.names import Image
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.pull.docker import AsyncDocker

_SETTLED = (Verdict.UP_TO_DATE, Verdict.PUSHED_MANUALLY, Verdict.ONLY_IN_REGISTRY)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The state of one name in Docker and in the registry, and the verdict on it."""

    local: DockerState
    registry: RegistryState
    verdict: Verdict
    record: TagRecord
    """The earlier knowledge about the tag."""

    @property
    def docker_identity(self) -> str:
        """Docker's Id of the image, or an empty string."""
        return self.local.identity if isinstance(self.local, LocalImage) else ""

    @property
    def registry_digest(self) -> str:
        """The registry's digest of the image, or an empty string."""
        return self.registry.digest if isinstance(self.registry, RegistryImage) else ""

    @property
    def is_settled(self) -> bool:
        """Return True if both sides have answered, and nothing is left to push or to decide."""
        return self.verdict in _SETTLED


async def read_both(
    image: Image, docker: AsyncDocker, backend: Backend, registry: Awaitable[RegistryState]
) -> tuple[DockerState, RegistryState]:
    """Query Docker and the registry at the same time. Raises BackendUnreachable.

    Configs and children are read only when the digests differ.
    """
    local, remote = await asyncio.gather(docker.inspect(image), registry)
    if not isinstance(local, LocalImage) or not isinstance(remote, RegistryImage):
        return local, remote
    if local.identity == remote.digest:
        return local, remote
    if local.is_index:
        # Docker has already answered: a timeout of this slower call does not make it unreachable.
        with_children = await docker.inspect(image, children=True)
        return (local if isinstance(with_children, Unreachable) else with_children), remote
    configs = await backend.configs(image.repository, remote.digest)
    return local, replace(remote, configs=configs)
