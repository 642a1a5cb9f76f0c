"""Looking after clusters by itself: addresses after Docker has started, networks of clusters that are gone.

For a minute each time that Docker has come back, ourselves included, nodes that stayed down because another node
got their address are given it back; at other times nobody takes an address. After that it waits for containers that
are removed.
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


class Tending:
    """Goes on for as long as it runs; `removals` gives one thing when it begins, and one for each removal."""

    def __init__(
        self,
        give_back: Callable[[], list[Collision]],
        leave_gone: Callable[[], list[str]],
        removals: Callable[[], Iterator[object]],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._give_back = give_back
        self._leave_gone = leave_gone
        self._removals = removals
        self._look_seconds = look_seconds

    async def run(self, emit: Emit) -> None:
        """Until cancelled."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()

        def tell(sentence: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: we are stopping
                loop.call_soon_threadsafe(emit, Notice(sentence))

        arguments = (stopped, tell)
        thread = threading.Thread(target=self._follow, args=arguments, daemon=True, name="tending")
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
                    self._leave(tell)
                    if stopped.wait(self._look_seconds):
                        return
                for _ in self._removals():
                    self._leave(tell)
            stopped.wait(self._look_seconds)

    def _leave(self, tell: Callable[[str], None]) -> None:
        for network in self._leave_gone():
            tell(f"left network {network}: its cluster is gone")
