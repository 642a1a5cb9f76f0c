"""Checks once after the start that Docker's `localhost:5000` is this proxy: Docker is made to query its registry.

Docker may run in a virtual machine or a network namespace of its own. Its pushes would then go elsewhere.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from autoregistry.errors import DockerUnreachable, LoopbackBroken
from autoregistry.events import Emit, Event, Notice, PullAnswered, PullSeen
from autoregistry.proxy.background import Background
from autoregistry.proxy.retry import retry

PROBE_NAME = "autoregistry-probe"
LOOPBACK_RETRY_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class LoopbackCheck:
    """One query by Docker, which must arrive here."""

    trigger_lookup: Callable[[str], None]
    name: str
    emit: Emit
    background: Background
    _nonce: str = field(default_factory=secrets.token_hex)
    _has_arrived: bool = False
    broken: LoopbackBroken | None = None
    """Set if Docker's pushes would not reach this proxy."""

    def recognises(self, event: Event) -> bool:
        """Return True for events of the check's own query, which are not shown."""
        match event:
            case PullSeen(manifest) | PullAnswered(manifest):
                is_own = (manifest.repository, manifest.reference) == (PROBE_NAME, self._nonce)
                self._has_arrived |= is_own
                return is_own
            case _:
                return False

    async def run(self) -> None:
        """Make Docker query as soon as it can be reached."""

        async def has_queried() -> bool | None:
            reference = f"{self.name}/{PROBE_NAME}:{self._nonce}"
            try:
                await self.background.in_thread("loopback", self.trigger_lookup, reference)
            except DockerUnreachable:
                return self._has_arrived or None
            return True

        await retry(has_queried, itertools.repeat(LOOPBACK_RETRY_SECONDS))
        if not self._has_arrived:
            self.broken = LoopbackBroken(
                f"Docker's {self.name} is not this proxy: Docker would push elsewhere",
                "autoregistry up  (it runs the proxy where Docker is)",
            )
            self.emit(Notice(f"{self.broken.message}; hint: {self.broken.hint}"))
