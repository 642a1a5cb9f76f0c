"""Looking after clusters by itself: addresses after Docker has started, and which networks we are on.

For a minute each time that Docker has come back, ourselves included, nodes that stayed down because another node
got their address are given it back; at other times nobody takes an address. Networks of clusters that are gone are
left; those of clusters that pull from us are joined, where `down` and `up` or the way they were made has us away.
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
_Tell = Callable[[str], None]


class NetworkRepair:
    """Goes on for as long as it runs.

    `changes` gives None when Docker is listened to, and then `start` or `destroy` for each container of k3d's.
    """

    def __init__(
        self,
        give_back: Callable[[], list[Collision]],
        leave_gone: Callable[[], list[str]],
        rejoin: Callable[[], list[str]],
        changes: Callable[[], Iterator[str | None]],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._give_back = give_back
        self._leave_gone = leave_gone
        self._rejoin = rejoin
        self._changes = changes
        self._look_seconds = look_seconds
        self._stopped = threading.Event()

    async def run(self, emit: Emit) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()

        def tell(sentence: str) -> None:
            with suppress(RuntimeError):  # the loop is closed: we are stopping
                loop.call_soon_threadsafe(emit, Notice(sentence))

        self._begin(self._follow, tell)
        try:
            await asyncio.Event().wait()
        finally:
            self._stopped.set()

    def _begin(self, work: Callable[[_Tell], None], tell: _Tell) -> None:
        threading.Thread(target=work, args=(tell,), daemon=True, name="tending").start()

    def _follow(self, tell: _Tell) -> None:
        while not self._stopped.is_set():
            with suppress(AutoregistryError):
                for change in self._changes():
                    if change is None:
                        self._begin(self._look_for_a_minute, tell)
                    if change != "start":
                        for network in self._leave_gone():
                            tell(f"left network {network}: its cluster is gone")
                    # Not when a node is removed: the others of its cluster follow, and we have left it.
                    if change != "destroy":
                        for network in self._rejoin():
                            tell(f"joined network {network}: its nodes pull from here")
            self._stopped.wait(self._look_seconds)

    def _look_for_a_minute(self, tell: _Tell) -> None:
        for _ in range(LOOKS):
            with suppress(AutoregistryError):  # Docker is busy, or somebody was quicker
                for taken in self._give_back():
                    address = f"its address {taken.address} back from {taken.holder}"
                    tell(f"{taken.owner} has {address}, and runs")
            if self._stopped.wait(self._look_seconds):
                return
