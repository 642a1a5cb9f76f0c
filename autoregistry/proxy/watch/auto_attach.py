"""Whatever k3d cluster starts is attached: clusters made by Makefiles and actions, nodes added later included.

Follows Docker's events of containers with k3d's label; a cluster that is starting is tried again until its API
server answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice
from autoregistry.proxy.watch.docker_events import follow

THREADS = 4
TRY_SECONDS = 2.0
TRIES = 45
BACK_OFF_SECONDS = 2.0


class AutoAttach:
    """Attaches clusters, by name, for as long as it runs."""

    def __init__(
        self,
        clusters: Callable[[], Iterator[str]],
        attach: Callable[[str], object],
        emit: Emit,
    ) -> None:
        self._clusters = clusters
        self._attach = attach
        self._emit = emit
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._threads = ThreadPoolExecutor(THREADS, "attach")

    async def run(self) -> None:
        """Until cancelled; what ran already comes first, and again after Docker was away."""
        while True:
            loop = asyncio.get_running_loop()
            args = (self._clusters, loop, self._queue)
            threading.Thread(target=follow, args=args, daemon=True, name="attach").start()
            while (cluster := await self._queue.get()) is not None:
                self._start(cluster)
            await asyncio.sleep(BACK_OFF_SECONDS)

    def _start(self, cluster: str) -> None:
        """A node that starts while its cluster is being attached has it attached once more."""
        if cluster in self._tasks:
            self._again.add(cluster)
        else:
            self._tasks[cluster] = asyncio.create_task(self._until_attached(cluster))

    async def _until_attached(self, cluster: str) -> None:
        cause, loop = "", asyncio.get_running_loop()
        for _ in range(TRIES):
            self._again.discard(cluster)
            try:
                await loop.run_in_executor(self._threads, self._attach, cluster)
            except AutoregistryError as exc:
                cause = exc.message
            else:
                cause = ""
                if cluster not in self._again:
                    break
            await asyncio.sleep(TRY_SECONDS)
        sentence = f"could not be attached: {cause}" if cause else "is attached"
        self._emit(Notice(f"cluster {cluster} {sentence}"))
        del self._tasks[cluster]
