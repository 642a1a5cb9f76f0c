"""Who has a port of this machine: on 127.0.0.1, or on ::1, which `localhost` means first on many machines.

Refuses to try by binding: that tells nothing about the owner, and a port that is free for us on one address
may still lead `localhost` to somebody else on the other.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from autoregistry.engine.containers import Containers
from autoregistry.errors import PortTaken
from autoregistry.stack.model import PROXY

_LISTENING = "0A"
_BOTH = "127.0.0.1 and ::1"
EVERY_ADDRESS = ("127.0.0.1", "::1", _BOTH)
"""Where a port is heard that is published on all addresses."""
# As /proc/net writes them: 0.0.0.0, 127.0.0.1, ::, ::1, ::ffff:0.0.0.0, ::ffff:127.0.0.1.
_ADDRESSES = {
    "00000000": "127.0.0.1",
    "0100007F": "127.0.0.1",
    "0" * 32: _BOTH,
    "0" * 24 + "01000000": "::1",
    "0000000000000000FFFF000000000000": "127.0.0.1",
    "0000000000000000FFFF00000100007F": "127.0.0.1",
}
_AIRPLAY_PORTS = (5000, 7000)
_TRIES = 50
_CONNECT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody who listens."""

    address: str
    inode: str = ""


def refuse_taken(port: int, containers: Containers, *, is_local: bool) -> None:
    """Raise PortTaken, with the owner's name and a free port, unless the port is free.

    Where the daemon is on another machine only its containers can be seen; Docker itself refuses the rest.
    """
    published = published_ports(containers)
    if port in published or (is_local and listeners(port)):
        raise taken(port, published)


def taken(port: int, published: Mapping[int, str]) -> PortTaken:
    """The error for a port that is known to be taken, by whom as far as can be seen from here."""
    heard = listeners(port)
    if owner := published.get(port):
        address, who = "127.0.0.1", f"the container {owner}"
    elif heard:
        address, who = heard[0].address, process_name(heard[0], port)
    else:
        address, who = "127.0.0.1", "somebody else"
    free = free_port(port + 1, published)
    return PortTaken(f"port {port} on {address} belongs to {who}", f"autoregistry up --port {free}")


def published_ports(containers: Containers) -> dict[int, str]:
    """The ports that running containers have, but for ours."""
    return {
        int(address.rpartition(":")[2]): container.name
        for container in containers.list()
        if container.is_running and container.name != PROXY
        for addresses in container.ports.values()
        for address in addresses
        if address.rpartition(":")[2].isdecimal()
    }


def free_port(first: int, published: Mapping[int, str]) -> int:
    """The first port from there on that nobody has, as far as can be seen from here."""
    ports = range(first, first + _TRIES)
    return next((p for p in ports if p not in published and not listeners(p)), first)


def listeners(port: int, proc: Path = Path("/proc")) -> list[Listener]:
    """Who listens on either loopback address."""
    if not (proc / "net/tcp").exists():
        return _answering(port)
    found = []
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for row in (proc / "net" / table).read_text().splitlines()[1:]:
                words = row.split()
                address, _, number = words[1].partition(":")
                if words[3] == _LISTENING and int(number, 16) == port and address in _ADDRESSES:
                    found.append(Listener(_ADDRESSES[address], words[9]))
    return found


def process_name(listener: Listener, port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens, as people know it."""
    for folder in _processes(proc):
        with suppress(OSError):
            if any(
                str(entry.readlink()) == f"socket:[{listener.inode}]"
                for entry in (folder / "fd").iterdir()
            ):
                name = (folder / "comm").read_text().strip()
                known = f"{name} (process {folder.name})"
                return f"{known}, for a container" if name == "docker-proxy" else known
    if sys.platform == "darwin" and port in _AIRPLAY_PORTS:
        return "macOS (AirPlay Receiver: System Settings, AirDrop & Handoff)"
    return "a process of another user" if listener.inode else "another process"


def _processes(proc: Path) -> Iterator[Path]:
    return (
        (folder for folder in proc.iterdir() if folder.name.isdecimal())
        if proc.is_dir()
        else iter(())
    )


def _answering(port: int) -> list[Listener]:
    """Without /proc: whoever takes a connection."""
    found = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError), closing(socket.socket(family)) as trial:
            trial.settimeout(_CONNECT_SECONDS)
            trial.connect((address, port))
            found.append(Listener(address))
    return found
