"""The proxy in the foreground, until it is told to stop."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from contextlib import suppress

from autoregistry.events import Emit, Notice
from autoregistry.proxy import app
from autoregistry.proxy.http.server import STOP_SECONDS
from autoregistry.settings import Settings


def run(settings: Settings, show: Emit) -> None:
    """Serve until SIGINT or SIGTERM, then end what is under way. Raises ListenFailed."""
    raise_descriptors()
    asyncio.run(_until_stopped(settings, show))


async def _until_stopped(settings: Settings, show: Emit) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with app.running(settings, app.real_docker(), show) as proxy:
        where = ", ".join(str(address) for address in settings.listen)
        show(
            Notice(f"{settings.names.primary} is served at {where}, in front of {settings.backend}")
        )
        await stop.wait()
        began = time.monotonic()
        left = await proxy.sync.settle(STOP_SECONDS)
        proxy.server.stop_seconds = max(0.5, STOP_SECONDS - (time.monotonic() - began))
        for image in left:
            show(Notice(f"{image}  its push was cut off, the next pull starts it anew"))


def raise_descriptors() -> None:
    """A shell's usual 1024 files are fewer than the connections we let in; the system's own bound is ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says unlimited, and does not mean it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
