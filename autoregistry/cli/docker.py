"""The daemon that commands talk to, and where we run as seen from it."""

from __future__ import annotations

import platform
from pathlib import Path

from autoregistry import __version__
from autoregistry.engine.daemon import Daemon


def daemon() -> Daemon:
    """The daemon that Docker's own tools would find, for commands; their pulls are nobody's own pushes."""
    return Daemon(f"autoregistry/{__version__}")


def is_local(daemon: Daemon) -> bool:
    """Whether the daemon's ports are this machine's ports, as far as one can see from here."""
    if not daemon.host.startswith("unix://"):
        return False
    # A container that shares the machine's network has the machine's name as well.
    return not in_container() or daemon.info().name == platform.node()


def container_name() -> str | None:
    """Our name on Docker's networks: in a container of ours the host name is the container's."""
    return platform.node() if in_container() else None


def in_container() -> bool:
    """Whether we run in a container (Docker leaves this file in each of its own)."""
    return Path("/.dockerenv").exists()
