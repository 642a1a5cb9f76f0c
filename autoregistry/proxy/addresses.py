"""After Docker has started: nodes that stayed down because another node got their address are given it back.

Looks for a minute each time that Docker has come back, ourselves included; at other times nobody takes an address.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from autoregistry.cluster.addresses import Collision
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice

LOOKS = 15
LOOK_SECONDS = 4.0


class Addresses:
    """Keeps each node at its address, for as long as it runs."""

    def __init__(
        self,
        give_back: Callable[[], list[Collision]],
        until_docker_ends: Callable[[], Iterator[object]],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._give_back = give_back
        self._until_docker_ends = until_docker_ends
        self._look_seconds = look_seconds

    async def run(self, emit: Emit) -> None:
        """Until cancelled."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()

        def tell(sentence: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: we are stopping
                loop.call_soon_threadsafe(emit, Notice(sentence))

        thread = threading.Thread(
            target=self._follow, args=(stopped, tell), daemon=True, name="addresses"
        )
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    def _follow(self, stopped: threading.Event, tell: Callable[[str], None]) -> None:
        while not stopped.is_set():
            with suppress(AutoregistryError):
                for _ in range(LOOKS):
                    for taken in self._give_back():
                        tell(
                            f"{taken.owner} has its address {taken.address} back from {taken.holder}, and runs"
                        )
                    if stopped.wait(self._look_seconds):
                        return
                for _ in self._until_docker_ends():
                    pass
            stopped.wait(self._look_seconds)
