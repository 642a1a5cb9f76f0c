"""The facts of one image: what Docker and the registry have under its name, asked at the same time, and the verdict.

Refuses to judge: that is `decision.py`'s. Asks only as deep as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from autoregistry.decision import LocalImage, RegistryImage, TagRecord, Unreachable, Verdict, decide
from autoregistry.errors import TagUnreadable
from autoregistry.names import Image
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.pull.docker import AsyncDocker, DockerState
from autoregistry.proxy.pull.journal import UNKNOWN, Journal

# Any client can name repositories; a mark too few costs a push that comes one pull later.
MAX_INCOMPLETE = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """What both stores have under one name, and what that means."""

    local: DockerState
    registry: RegistryImage | None
    verdict: Verdict
    stale_because: str | None

    @property
    def is_stale_no_more(self) -> bool:
        """Whether it was known to be, and Docker has said by now that nothing is to be pushed."""
        is_settled = not isinstance(self.local, Unreachable) and not self.verdict.must_push
        return is_settled and self.stale_because is not None


class Comparison:
    """Compares the stores of one proxy."""

    def __init__(self, questions: AsyncDocker, backend: Backend, journal: Journal) -> None:
        self._questions = questions
        self._backend = backend
        self._journal = journal
        self._incomplete: set[str] = set()

    async def of(
        self, image: Image, registry: Awaitable[RegistryImage | None] | None = None
    ) -> Facts:
        """Both stores, asked now; `registry` where its answer is on its way already. Raises BackendUnreachable."""
        asked = self._backend.ask(image.repository, image.tag) if registry is None else registry
        local, remote = await asyncio.gather(self._questions.inspect(image), asked)
        if isinstance(local, LocalImage) and remote and local.identity != remote.digest:
            if local.is_index:
                # Docker has answered: that it is too busy for this longer question does not take that back.
                more = await self._questions.inspect(image, children=True)
                local = local if isinstance(more, Unreachable) else more
            else:
                behind = await self._backend.configs_behind(image.repository, remote.digest)
                remote = replace(remote, configs=behind)
        memory = self._journal.memory(image)
        if memory.docker_had == UNKNOWN and not isinstance(local, Unreachable):
            had = local.identity if local else None
            self._journal.set_by_hand(image, had)
            memory = replace(memory, docker_had=had)
        memory = replace(memory, incomplete=image.repository in self._incomplete)
        verdict = decide(local, remote, memory)
        if verdict is Verdict.MISSING and _is_respected(local, memory):
            await self._refuse_unreadable(image)
        return Facts(local, remote, verdict, memory.stale_because)

    async def _refuse_unreadable(self, image: Image) -> None:
        """What was pushed by hand and cannot be read just now is not gone: Docker's image must not take its place."""
        if await self._backend.is_unreadable(image.repository, image.tag):
            raise TagUnreadable(
                f"the registry cannot read {image}, which was pushed by hand",
                f"autoregistry push {image}",
            )

    def found_incomplete(self, repository: str) -> None:
        """Every tag of this repository that the registry has is incomplete until `made_whole`."""
        if len(self._incomplete) >= MAX_INCOMPLETE:
            self._incomplete.clear()
        self._incomplete.add(repository)

    def made_whole(self, repository: str) -> None:
        """A push of one of its tags begins, which brings what is missing."""
        self._incomplete.discard(repository)


def _is_respected(local: DockerState, memory: TagRecord) -> bool:
    """Whether a push by hand stands: Docker has what it had then."""
    return memory.by_hand and isinstance(local, LocalImage) and memory.docker_had == local.identity
