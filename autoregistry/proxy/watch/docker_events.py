"""From a thread into the loop: what a blocking iterator over Docker's events gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from autoregistry.errors import AutoregistryError


def follow(
    names: Callable[[], Iterator[str]],
    loop: asyncio.AbstractEventLoop,
    queue: asyncio.Queue[str | None],
) -> None:
    """Put each name into the queue, and None when there are no more: Docker has gone away. Blocks until then."""
    with suppress(RuntimeError):  # the loop is closed: we are stopping
        try:
            with suppress(AutoregistryError):
                for name in names():
                    loop.call_soon_threadsafe(queue.put_nowait, name)
        finally:
            loop.call_soon_threadsafe(queue.put_nowait, None)
