"""Docker, asked about images from asyncio: two executors, bounded waits, one question for all who wait for it.

Never asyncio's default executor: its few threads also resolve host names, and pushes blocked in it would wait
for a connection that waits for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from autoregistry.decision import LocalImage, Unreachable
from autoregistry.engine.progress import Progress
from autoregistry.errors import DockerRefused, DockerUnreachable
from autoregistry.names import Image, RegistryNames
from autoregistry.settings import (
    DOCKER_DIGEST_SECONDS,
    DOCKER_LIST_SECONDS,
    DOCKER_LIST_THREADS,
    PUSH_THREADS,
    DOCKER_CALL_SECONDS,
    DOCKER_CALL_THREADS,
)

DockerState = LocalImage | Unreachable | None
Timed = Callable[[float, str], None]
"""Told how long an answer took, and whether it came: `ok` or `failed`."""
_T = TypeVar("_T")


class Images(Protocol):
    """What the proxy wants of Docker (`engine/images.py`); every method blocks."""

    def ping(self) -> bool: ...
    def daemon_identity(self) -> str: ...
    def inspect(self, reference: str, *, children: bool = False) -> LocalImage | None: ...
    def tags_with(self, reference: str, digest: str) -> list[str]: ...
    def sizes(self, registries: Iterable[str]) -> dict[str, int]: ...
    def platforms(self, reference: str) -> list[str]: ...
    def architecture(self) -> str: ...
    def builders(self) -> list[str]: ...
    def names_of(self, identity: str) -> list[str]: ...
    def push(self, reference: str, on_progress: Callable[[Progress], None]) -> Progress: ...


class AsyncDocker:
    """Every question about images, and every push."""

    def __init__(self, images: Images, names: RegistryNames, timed: Timed) -> None:
        self._images = images
        self._timed = timed
        self._names = names
        self._askers = ThreadPoolExecutor(DOCKER_CALL_THREADS, "question")
        self._listers = ThreadPoolExecutor(DOCKER_LIST_THREADS, "list")
        self._pushers = ThreadPoolExecutor(PUSH_THREADS, "push")
        self._waiting: dict[tuple[Image, bool], asyncio.Task[DockerState]] = {}
        self._running: dict[tuple[Image, bool], asyncio.Task[DockerState]] = {}
        self.is_answering = True
        self._answered = 0.0

    def close(self) -> None:
        for executor in (self._askers, self._listers, self._pushers):
            executor.shutdown(wait=False, cancel_futures=True)

    async def inspect(self, image: Image, *, children: bool = False) -> DockerState:
        """What Docker has under this name, said by Docker after this call.

        Whoever comes while the same question is under way waits for the next one and shares it: an answer
        already on its way may be older than the request it would be used for.
        """
        key = (image, children)
        if key not in self._waiting:
            self._waiting[key] = asyncio.create_task(self._next_answer(key))
        return await asyncio.shield(self._waiting[key])

    async def _next_answer(self, key: tuple[Image, bool]) -> DockerState:
        if (running := self._running.get(key)) is not None:
            await asyncio.wait({running})
        self._running[key] = self._waiting.pop(key)
        try:
            return await self.ask(lambda images: self._first_name(images, *key))
        finally:
            del self._running[key]

    def _first_name(self, images: Images, image: Image, children: bool) -> LocalImage | None:
        for reference in self._names.docker_references(image):
            if found := images.inspect(reference, children=children):
                return found
        return None

    async def tags_with(self, repository: str, digest: str) -> list[Image] | Unreachable:
        """The tags of a repository of ours whose image in Docker has this digest."""

        def ask(images: Images) -> list[Image]:
            references = [f"{name}/{repository}" for name in self._names.all]
            return [Image(repository, t) for r in references for t in images.tags_with(r, digest)]

        return await self._list(ask, DOCKER_DIGEST_SECONDS)

    async def ours(self) -> dict[Image, int] | Unreachable:
        """What Docker has under our names, and the sizes."""
        found = await self._list(lambda images: images.sizes(self._names.all), DOCKER_LIST_SECONDS)
        if isinstance(found, Unreachable):
            return found
        named = ((self._names.parse(reference), size) for reference, size in found.items())
        return {image: size for image, size in named if image is not None}

    async def push(self, image: Image, on_progress: Callable[[Progress], None]) -> Progress:
        """Push under the name that Docker has it by. Raises PushRefused, DockerUnreachable."""

        def push() -> Progress:
            references = self._names.docker_references(image)
            found = next((r for r in references if self._images.inspect(r)), references[0])
            return self._images.push(found, on_progress)

        return await asyncio.get_running_loop().run_in_executor(self._pushers, push)

    async def _list(self, question: Callable[[Images], _T], seconds: float) -> _T | Unreachable:
        """A question that may take long, in threads of its own; first a short one, whether Docker answers at all."""
        there = await self.ask(lambda images: images.ping())
        if isinstance(there, Unreachable):
            return there
        return await self.ask(question, seconds, self._listers)

    async def ask(
        self,
        question: Callable[[Images], _T],
        seconds: float | None = None,
        threads: ThreadPoolExecutor | None = None,
    ) -> _T | Unreachable:
        """Any other question, bounded in time. A daemon that hangs or refuses counts as unreachable.

        One that waits behind others is no sign of that, as long as those are answered.
        """
        began, asked, limit = time.monotonic(), 0.0, seconds or DOCKER_CALL_SECONDS

        def ask() -> _T:
            nonlocal asked
            asked = time.monotonic()
            return question(self._images)

        answering = asyncio.get_running_loop().run_in_executor(threads or self._askers, ask)
        try:
            while not answering.done():
                silent = time.monotonic() - (asked or max(began, self._answered))
                if silent >= limit:
                    raise TimeoutError
                await asyncio.wait({answering}, timeout=limit - silent)
            answer = answering.result()
        except (TimeoutError, DockerUnreachable, DockerRefused):
            self.is_answering = False
            self._timed(time.monotonic() - began, "failed")
            return Unreachable.DOCKER
        finally:
            answering.cancel()
        self.is_answering, self._answered = True, time.monotonic()
        self._timed(self._answered - (asked or began), "ok")
        return answer
