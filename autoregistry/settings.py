"""All settings, as one frozen value. Every default is here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autoregistry.names import RegistryNames

DEFAULT_PORT = 5000
# containerd from 2.3.0 on gives up on response headers after 30 s (core/remotes/docker/registry.go), and so
# does Docker from 29.7 on, whose containerd store uses the same code.
PATIENCE_SECONDS = 25.0
# Clients without such a limit wait longer.
LONG_PATIENCE_SECONDS = 600.0
# A healthy daemon answers an inspect in milliseconds. One that takes longer than this is treated as stopped.
DOCKER_CALL_SECONDS = 5.0
# The containerd store takes ten milliseconds for each image that it lists, and more on a busy machine.
DOCKER_LIST_SECONDS = 60.0
# A client that pulls by digest waits no longer than any other: this must be less than PATIENCE_SECONDS.
DOCKER_DIGEST_SECONDS = 20.0
# Docker is silent this long only while the registry completes a layer of many gigabytes.
PUSH_SILENCE_SECONDS = 600.0
# The repository of the images that `doctor` and `cluster create` build to check a pull, each with a tag of its own.
CHECK = "autoregistry/check"
PUSH_THREADS = 4
DOCKER_CALL_THREADS = 8
DOCKER_LIST_THREADS = 2
_T = TypeVar("_T")


def is_check(reference: str) -> bool:
    """Return True for the image of a check, such as `autoregistry/check:1f3c`. No list of images shows it."""
    return reference.startswith((f"{CHECK}:", f"{CHECK}@"))


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _limit(default: _T, text: str) -> _T:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what clients may use. `serve --limit` shows the texts."""

    head_bytes: int = _limit(16 * 1024, "the longest line of a request's head")
    headers: int = _limit(128, "the headers of a request")
    head_seconds: float = _limit(20.0, "how long a connection may take to send a request's head")
    idle_seconds: float = _limit(300.0, "how long a body may stand still, either way")
    keepalive_seconds: float = _limit(75.0, "how long a connection is kept for its next request")
    connections: int = _limit(2000, "open connections")
    # Docker's port forwarding can make many clients look like one address.
    connections_per_address: int = _limit(1000, "open connections from one address")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `serve`."""

    listen: tuple[Address, ...] = (Address("127.0.0.1", DEFAULT_PORT),)
    backend: str = "http://127.0.0.1:4999"
    names: RegistryNames = RegistryNames.local(DEFAULT_PORT)
    patience: float = PATIENCE_SECONDS
    """Seconds that a client with a limit of its own waits for a push before it gets 408."""
    watch: bool = True
    """Push as soon as Docker reports a build."""
    refresh: bool = True
    """Make the nodes pull what has changed."""
    restart_workloads: bool = False
    """Restart workloads that run an old copy, as soon as their node has the new one."""
    attach_all: bool = False
    """Attach every k3d cluster that is running or starts later."""
    state: Path = Path("~/.local/state/autoregistry")
    skip: tuple[str, ...] = ("tilt-build-*",)
    """Tags or images that are pushed only when a client pulls them."""
    allow_hosts: tuple[str, ...] = ()
    """Further Host headers that are accepted. Requests for other hosts are answered 421."""
    container: str | None = None
    """The proxy's name on Docker's networks if it runs in a container. Nodes use it."""
    limits: Limits = Limits()
