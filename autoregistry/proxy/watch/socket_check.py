"""Detects a dead Docker socket in a container: the proxy exits, and its restart policy mounts the new socket.

A mounted socket is an inode. If the daemon makes a new socket while containers go on (live-restore, a restarted
docker.socket), the mounted one refuses every connection for ever, which looks like a Docker that is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SOCKET_CHECK_SECONDS = 4.0
# 20 seconds from the first to the last.
REFUSALS = 6


async def until_dead(refuses: Callable[[], bool]) -> None:
    """Return after REFUSALS refused connections without one that was not refused."""
    refusals = 0
    while refusals < REFUSALS:
        await asyncio.sleep(SOCKET_CHECK_SECONDS)
        refusals = refusals + 1 if refuses() else 0
