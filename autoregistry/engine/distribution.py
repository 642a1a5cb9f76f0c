"""Have the daemon itself ask a registry: what it reaches under a name need not be what we reach."""

from __future__ import annotations

from contextlib import suppress

from autoregistry.engine.daemon import Daemon
from autoregistry.errors import DockerRefused

# The daemon tries https first, and a registry that is not there may swallow its packets.
SECONDS = 15.0


def make_daemon_ask(daemon: Daemon, reference: str) -> None:
    """Make the daemon look a reference up in its registry, whatever comes of it. Raises DockerUnreachable."""
    with suppress(DockerRefused):  # it asked somebody, who refused or is not there
        daemon.request("GET", f"/distribution/{reference}/json", timeout=SECONDS)
