"""The asynchronous interface to Docker's images: thread pools, bounded waits, and shared inspections.

asyncio's default executor is not used: its few threads also resolve host names, and pushes that fill it would wait
for connections that wait for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from autoregistry.decision import DockerState, LocalImage, Unreachable
from autoregistry.engine.images import Images
from autoregistry.engine.streams import OnProgress, Progress
from autoregistry.errors import DockerRefused, DockerUnreachable
from autoregistry.names import Image, RegistryNames
from autoregistry.settings import (
    DOCKER_CALL_SECONDS,
    DOCKER_CALL_THREADS,
    DOCKER_DIGEST_SECONDS,
    DOCKER_LIST_SECONDS,
    DOCKER_LIST_THREADS,
    PUSH_THREADS,
)

Observe = Callable[[float, str], None]
"""Called with the seconds that a call took, and its result: `ok` or `failed`."""
_T = TypeVar("_T")


class AsyncDocker:
    """Calls Docker from asyncio."""

    def __init__(self, images: Images, names: RegistryNames, observe: Observe) -> None:
        self._images = images
        self._names = names
        self._observe = observe
        self._calls = ThreadPoolExecutor(DOCKER_CALL_THREADS, "docker-call")
        self._lists = ThreadPoolExecutor(DOCKER_LIST_THREADS, "docker-list")
        self._pushes = ThreadPoolExecutor(PUSH_THREADS, "docker-push")
        self._next: dict[Hashable, asyncio.Task[Any]] = {}
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self.is_answering = True
        self._answered_at = 0.0

    def close(self) -> None:
        for executor in (self._calls, self._lists, self._pushes):
            executor.shutdown(wait=False, cancel_futures=True)

    async def inspect(self, image: Image, *, children: bool = False) -> DockerState:
        """Return the state of a name in Docker, as of a time after this call."""

        def inspect_names(images: Images) -> LocalImage | None:
            references = self._names.docker_references(image)
            inspected = (images.inspect(r, children=children) for r in references)
            return next(filter(None, inspected), None)

        return await self._share(("inspect", image, children), lambda: self.call(inspect_names))

    async def tags_with(self, repository: str, digest: str) -> list[Image] | Unreachable:
        """Return the tags of a repository whose image in Docker has this digest, as of a time after this call.

        Docker lists all tags of the repository for it, so the clients that ask for any of its digests share one list.
        """
        references = [f"{name}/{repository}" for name in self._names.all]
        digests = await self._share(
            ("digests", repository),
            lambda: self._call_slow(lambda i: i.digests(references), DOCKER_DIGEST_SECONDS),
        )
        if isinstance(digests, Unreachable):
            return digests
        parsed = (self._names.parse(name) for name, own in digests.items() if digest in own)
        return list(dict.fromkeys(image for image in parsed if image is not None))

    async def builders(self) -> list[str] | Unreachable:
        """Return the builders that keep their images, as of a time after this call."""
        return await self._share("builders", lambda: self.call(lambda images: images.builders()))

    async def _share(self, key: Hashable, query: Callable[[], Awaitable[_T]]) -> _T:
        """Return the result of a query that begins after this call.

        Callers that arrive during a query share the next one: the result of the current one may be older than their
        requests.
        """
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._query_next(key, query))
        return cast(_T, await asyncio.shield(self._next[key]))

    async def _query_next(self, key: Hashable, query: Callable[[], Awaitable[_T]]) -> _T:
        if (running := self._running.get(key)) is not None:
            await asyncio.wait({running})
        self._running[key] = self._next.pop(key)
        try:
            return await query()
        finally:
            del self._running[key]

    async def list_images(self) -> dict[Image, int] | Unreachable:
        """Return Docker's images under this registry's names, and their sizes in bytes."""
        sizes = await self._call_slow(
            lambda images: images.sizes(self._names.all), DOCKER_LIST_SECONDS
        )
        if isinstance(sizes, Unreachable):
            return sizes
        parsed = ((self._names.parse(reference), size) for reference, size in sizes.items())
        return {image: size for image, size in parsed if image is not None}

    async def push(self, image: Image, push_id: str, on_progress: OnProgress) -> Progress:
        """Push an image under the first name that Docker has it by. Raises PushRefused, DockerUnreachable."""

        def push() -> Progress:
            references = self._names.docker_references(image)
            existing = (r for r in references if self._images.inspect(r))
            return self._images.push(next(existing, references[0]), on_progress, push_id)

        return await asyncio.get_running_loop().run_in_executor(self._pushes, push)

    async def _call_slow(
        self, function: Callable[[Images], _T], seconds: float
    ) -> _T | Unreachable:
        """Make a call that may take long, in a pool of its own, after a short one that shows if Docker answers."""
        ping = await self.call(lambda images: images.ping())
        if isinstance(ping, Unreachable):
            return ping
        return await self.call(function, seconds, self._lists)

    async def call(
        self,
        function: Callable[[Images], _T],
        seconds: float | None = None,
        threads: ThreadPoolExecutor | None = None,
    ) -> _T | Unreachable:
        """Call a function in a thread, with a timeout. Docker is unreachable if it hangs or answers with an error.

        The time in the queue does not count as long as Docker answers the calls before it.
        """
        queued, started, limit = time.monotonic(), 0.0, seconds or DOCKER_CALL_SECONDS

        def run() -> _T:
            nonlocal started
            started = time.monotonic()
            return function(self._images)

        future = asyncio.get_running_loop().run_in_executor(threads or self._calls, run)
        try:
            while not future.done():
                silent = time.monotonic() - (started or max(queued, self._answered_at))
                if silent >= limit:
                    raise TimeoutError
                await asyncio.wait({future}, timeout=limit - silent)
            result = future.result()
        except (TimeoutError, DockerUnreachable, DockerRefused):
            self.is_answering = False
            self._observe(time.monotonic() - queued, "failed")
            return Unreachable.DOCKER
        finally:
            future.cancel()
        self.is_answering, self._answered_at = True, time.monotonic()
        self._observe(self._answered_at - (started or queued), "ok")
        return result
