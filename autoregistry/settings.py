"""Everything that can be set, as one frozen value. Each default stands here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autoregistry.names import RegistryNames

# containerd from 2.3.0 on gives up on response headers after 30 s (core/remotes/docker/registry.go), and so
# does Docker from 29.7 on, whose containerd store uses the same code.
PATIENCE_SECONDS = 25.0
# Clients without such a limit simply wait.
LONG_PATIENCE_SECONDS = 600.0
# A daemon that is well answers an inspect in milliseconds; one that does not is treated as stopped.
QUESTION_SECONDS = 5.0
# Its containerd store takes ten milliseconds for each image that it lists, and more on a busy machine.
LIST_SECONDS = 60.0
# Whoever asks by digest has as much patience as anybody.
DIGEST_SECONDS = 20.0
# Docker is silent for long only while the registry completes a layer of many gigabytes.
PUSH_SILENCE_SECONDS = 600.0
DEFAULT_NAMES = RegistryNames("localhost:5000", ("127.0.0.1:5000",))
# What `doctor` and `cluster create` build, to see that it can be pulled; it is in no list of images.
CHECK = "autoregistry/check:pull"
PUSH_THREADS = 4
QUESTION_THREADS = 8
LIST_THREADS = 2
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _limit(default: _T, says: str) -> _T:
    return field(default=default, metadata={"says": says})


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take of the proxy; `serve --limit` shows the sentences."""

    head_bytes: int = _limit(16 * 1024, "the longest line of a request's head")
    headers: int = _limit(128, "the headers of a request")
    head_seconds: float = _limit(20.0, "how long a connection may take to say what it wants")
    idle_seconds: float = _limit(300.0, "how long a body may stand still, either way")
    keepalive_seconds: float = _limit(75.0, "how long a connection is kept for its next request")
    connections: int = _limit(2000, "open connections")
    # Docker's port forwarding can make many clients look like one address.
    connections_per_address: int = _limit(1000, "open connections from one address")


@dataclass(frozen=True, slots=True)
class Settings:
    """What `serve` runs with."""

    listen: tuple[Address, ...] = (Address("127.0.0.1", 5000),)
    backend: str = "http://127.0.0.1:4999"
    names: RegistryNames = DEFAULT_NAMES
    patience: float = PATIENCE_SECONDS
    """Seconds that a client with a limit of its own is kept waiting for a push."""
    watch: bool = True
    refresh: bool = True
    restart_workloads: bool = False
    """Restart what runs an old copy, as soon as its node has the new one."""
    attach_all: bool = False
    """Attach every k3d cluster, running now or started later."""
    state: Path = Path("~/.local/state/autoregistry")
    skip: tuple[str, ...] = ("tilt-build-*",)
    """Tags, or images, that are not pushed before they are asked for."""
    allow_hosts: tuple[str, ...] = ()
    """Further names by which requests may come (a Host that is not ours is answered 421)."""
    container: str | None = None
    """Our name on Docker's networks, when we run in a container: nodes ask us by it."""
    limits: Limits = Limits()
