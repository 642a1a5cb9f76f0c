"""The owner of a port of this machine, on 127.0.0.1 or on ::1 (`localhost` means ::1 first on many machines).

A port is never tested by binding it: that does not show its owner, and a port that is free on one of the two
addresses may have another listener on the other.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from autoregistry.engine.containers import Containers
from autoregistry.errors import PortTaken
from autoregistry.stack.model import PROXY

_LISTENING = "0A"
_BOTH = "127.0.0.1 and ::1"
EVERY_ADDRESS = ("127.0.0.1", "::1", _BOTH)
"""The addresses at which a port is found that is published on all addresses."""
# In the notation of /proc/net: 0.0.0.0, 127.0.0.1, ::, ::1, ::ffff:0.0.0.0, ::ffff:127.0.0.1.
_ADDRESSES = {
    "00000000": "127.0.0.1",
    "0100007F": "127.0.0.1",
    "0" * 32: _BOTH,
    "0" * 24 + "01000000": "::1",
    "0000000000000000FFFF000000000000": "127.0.0.1",
    "0000000000000000FFFF00000100007F": "127.0.0.1",
}
_AIRPLAY_PORTS = (5000, 7000)
_CONNECT_SECONDS = 0.5


class Listener(NamedTuple):
    """A process that listens on a port."""

    address: str
    inode: str = ""


def require_free(port: int, containers: Containers, *, is_local: bool) -> None:
    """Raise PortTaken, with the owner's name and a free port, unless the port is free.

    On another machine only the daemon's containers can be seen; Docker itself refuses any other taken port.
    """
    published = published_ports(containers)
    if port in published or (is_local and listeners(port)):
        raise port_taken(port, published)


def port_taken(port: int, published: Mapping[int, str]) -> PortTaken:
    """Return the error for a taken port, with its owner as far as it can be seen from here."""
    address, owner = "127.0.0.1", "another program"
    if container := published.get(port):
        owner = f"the container {container}"
    elif visible := listeners(port):
        address, owner = visible[0].address, process_name(visible[0], port)
    free = free_port(port + 1, published)
    return PortTaken(
        f"port {port} on {address} is in use by {owner}", f"autoregistry up --port {free}"
    )


def published_ports(containers: Containers) -> dict[int, str]:
    """Return the published ports of running containers other than ours, with the containers' names."""
    return {
        int(address.rpartition(":")[2]): container.name
        for container in containers.list()
        if container.is_running and container.name != PROXY
        for addresses in container.ports.values()
        for address in addresses
        if address.rpartition(":")[2].isdecimal()
    }


def free_port(first: int, published: Mapping[int, str]) -> int:
    """Return the first port from there on that is free, as far as it can be seen from here."""
    ports = range(first, 65536)
    return next((p for p in ports if p not in published and not listeners(p)), first)


def listeners(port: int, proc: Path = Path("/proc")) -> list[Listener]:
    """Return the listeners on either loopback address."""
    if not (proc / "net/tcp").exists():
        return _accepting(port)
    result = []
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for row in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = row.split()
                address, _, number = fields[1].partition(":")
                if fields[3] == _LISTENING and int(number, 16) == port and address in _ADDRESSES:
                    result.append(Listener(_ADDRESSES[address], fields[9]))
    return result


def process_name(listener: Listener, port: int, proc: Path = Path("/proc")) -> str:
    """Return a name for the process that listens, such as `nginx (process 812)`."""
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):
            files = (str(entry.readlink()) for entry in (folder / "fd").iterdir())
            if f"socket:[{listener.inode}]" in files:
                program = (folder / "comm").read_text().strip()
                name = f"{program} (process {folder.name})"
                return f"{name}, for a container" if program == "docker-proxy" else name
    if sys.platform == "darwin" and port in _AIRPLAY_PORTS:
        return "macOS (AirPlay Receiver: System Settings, AirDrop & Handoff)"
    return "a process of another user" if listener.inode else "another process"


def _accepting(port: int) -> list[Listener]:
    """Return the loopback addresses that accept a connection, for systems without /proc."""
    result = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError), closing(socket.socket(family)) as trial:
            trial.settimeout(_CONNECT_SECONDS)
            trial.connect((address, port))
            result.append(Listener(address))
    return result
