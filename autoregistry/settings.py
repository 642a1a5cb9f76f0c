"""Everything that can be set, as one frozen value. Each default stands here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoregistry.names import RegistryNames

# containerd from 2.3.0 on gives up on response headers after 30 s (core/remotes/docker/registry.go), and so
# does Docker from 29.7 on, whose containerd store uses the same code.
PATIENCE_SECONDS = 25.0
# Clients without such a limit simply wait.
LONG_PATIENCE_SECONDS = 600.0
# A daemon that is well answers an inspect in milliseconds; one that does not is treated as stopped.
QUESTION_SECONDS = 5.0
# Docker is silent for long only while the registry completes a layer of many gigabytes.
PUSH_SILENCE_SECONDS = 600.0
DEFAULT_NAMES = RegistryNames("localhost:5000", ("127.0.0.1:5000",))
PUSH_THREADS = 4
QUESTION_THREADS = 8


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take of the proxy."""

    head_bytes: int = 16 * 1024
    """The longest request line, and the longest header."""
    headers: int = 128
    head_seconds: float = 20.0
    """How long a connection may take to say what it wants (slow-loris)."""
    idle_seconds: float = 300.0
    """How long a body may stand still, either way."""
    keepalive_seconds: float = 75.0
    """How long a connection is kept for its next request."""
    connections: int = 2000
    connections_per_address: int = 1000
    """Docker's port forwarding can make many clients look like one address."""


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
    """Attach whatever k3d cluster starts."""
    state: Path = Path("~/.local/state/autoregistry")
    skip: tuple[str, ...] = ("tilt-build-*",)
    """Tags, or images, that are not pushed before they are asked for."""
    allow_hosts: tuple[str, ...] = ()
    """Further names by which requests may come (a Host that is not ours is answered 421)."""
    container: str | None = None
    """Our name on Docker's networks, when we run in a container: nodes ask us by it."""
    limits: Limits = Limits()
