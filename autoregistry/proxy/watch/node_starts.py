"""A node that was away holds what it held: when it comes back, it is made to pull what has changed meanwhile.

A cluster is stopped in the evening, images are built, and the cluster is started: without this its pods would run
the old ones, for a node does not ask for what it holds. The same for a node that was paused. Refuses to pull what
the node does not hold: its pods ask for that themselves.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from autoregistry.cluster.nodes import CLUSTER_LABEL, Nodes
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import container_events
from autoregistry.errors import AutoregistryError, ClusterRefused
from autoregistry.names import RegistryNames
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.watch.docker_events import follow
from autoregistry.proxy.watch.node_refresh import NodeRefresher

# A node that starts answers `crictl` within seconds; a loaded machine takes its time.
TRY_SECONDS = 2.0
TRIES = 15


def node_starts(daemon: Daemon, nodes: Nodes, registry: str) -> Iterator[str]:
    """The names of the nodes attached to this registry, and then of every node that starts or is let go on; blocks."""
    actions = ("start", "unpause")
    for labels in container_events(daemon, "app=k3d", CLUSTER_LABEL, actions=actions):
        if labels is None:
            yield from [node.name for node in nodes.attached(registry)]
        else:
            yield labels["name"]


class NodeStartWatcher:
    """Looks after the nodes that come back, for as long as it runs."""

    def __init__(
        self,
        node_starts: Callable[[], Iterator[str]],
        nodes: Nodes,
        backend: Backend,
        refresh: NodeRefresher,
        names: RegistryNames,
    ) -> None:
        self._comings = node_starts
        self._nodes = nodes
        self._backend = backend
        self._refresh = refresh
        self._names = names
        self._threads = ThreadPoolExecutor(2, "return")
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._run()
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:  # Docker may go away, and come back
            loop = asyncio.get_running_loop()
            args = (self._comings, loop, self._queue)
            threading.Thread(target=follow, args=args, daemon=True, name="returns").start()
            while (name := await self._queue.get()) is not None:
                if (before := self._tasks.pop(name, None)) is not None:
                    before.cancel()
                self._tasks[name] = asyncio.create_task(self._look_after(name))
            await asyncio.sleep(TRY_SECONDS)

    async def _look_after(self, name: str) -> None:
        """Once it answers: what it holds under our names, and the registry has another image of."""
        for _ in range(TRIES):
            with suppress(AutoregistryError):  # it is still starting, or the registry is
                await self._bring(name)
                break
            await asyncio.sleep(TRY_SECONDS)
        self._tasks.pop(name, None)

    async def _bring(self, name: str) -> None:
        for reference, digests in (await self._held(name)).items():
            if image := self._names.parse(reference):
                there = await self._backend.ask(image.repository, image.tag)
                if there is not None and there.digest not in digests:
                    await self._refresh.bring(image, there.digest, name)

    async def _held(self, name: str) -> dict[str, frozenset[str]]:
        """Raises AutoregistryError as long as it does not answer."""

        def ask() -> dict[str, frozenset[str]]:
            for node in self._nodes.attached(self._names.primary):
                if node.name == name:
                    return self._nodes.held(node)
            raise ClusterRefused(f"{name} is not attached, or has not started yet")

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
