"""Is Docker's `localhost:5000` this proxy? Asked once after the start: Docker is made to ask its registry.

Docker may run in a machine, or a network namespace, of its own; its pushes would then go elsewhere for ever.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from autoregistry.errors import DockerUnreachable, LoopBroken
from autoregistry.events import Emit, Event, Notice, PullAnswered, PullSeen

REPOSITORY = "autoregistry-probe"
RETRY_SECONDS = 5.0


class LoopbackCheck:
    """One question to Docker, and whether it came back to us."""

    def __init__(self, make_daemon_ask: Callable[[str], None], name: str, emit: Emit) -> None:
        self._make_daemon_ask = make_daemon_ask
        self._name = name
        self._emit = emit
        self._nonce = secrets.token_hex(8)
        self._has_arrived = False
        self.broken: LoopBroken | None = None
        """Set where Docker's pushes would not reach us."""

    def recognises(self, event: Event) -> bool:
        """Whether this is the question come back, which is nobody's business but ours."""
        match event:
            case PullSeen(manifest) | PullAnswered(manifest):
                is_it = (manifest.repository, manifest.reference) == (REPOSITORY, self._nonce)
                self._has_arrived |= is_it
                return is_it
            case _:
                return False

    async def run(self) -> None:
        """Ask as soon as Docker can be asked."""
        reference = f"{self._name}/{REPOSITORY}:{self._nonce}"
        executor = ThreadPoolExecutor(1, "probe")
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await loop.run_in_executor(executor, self._make_daemon_ask, reference)
                    break
                except DockerUnreachable:
                    if self._has_arrived:
                        break
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
        if not self._has_arrived:
            self.broken = LoopBroken(
                f"Docker's {self._name} is not this proxy: what Docker pushes would go elsewhere",
                "autoregistry up  (it runs the proxy where Docker is)",
            )
            self._emit(Notice(f"{self.broken.message}; hint: {self.broken.hint}"))
