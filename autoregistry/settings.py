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


def _option(default: _T, text: str, placeholder: str | None = None) -> _T:
    """Return a field that users can set; `serve --help` shows the text."""
    return field(default=default, metadata={"help": text, "placeholder": placeholder})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what clients may use, set by `serve --limit`."""

    head_bytes: int = _option(16 * 1024, "the longest line of a request's head")
    headers: int = _option(128, "the headers of a request")
    head_seconds: float = _option(20.0, "how long a connection may take to send a request's head")
    idle_seconds: float = _option(300.0, "how long a body may stand still, either way")
    keepalive_seconds: float = _option(75.0, "how long a connection is kept for its next request")
    connections: int = _option(2000, "open connections")
    # Docker's port forwarding can make many clients look like one address.
    connections_per_address: int = _option(1000, "open connections from one address")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `serve`. A field with a text is an option of the same name."""

    names: RegistryNames = RegistryNames.local(DEFAULT_PORT)
    listen: tuple[Address, ...] = _option(
        (Address("127.0.0.1", DEFAULT_PORT),), "Address to listen on; repeatable.", "HOST:PORT"
    )
    backend: str = _option("http://127.0.0.1:4999", "The registry that stores the images.", "URL")
    patience: float = _option(
        PATIENCE_SECONDS,
        "How long to hold a pull for a push, if the client has a time limit of its own.",
        "SECONDS",
    )
    watch: bool = _option(default=True, text="Push as soon as Docker reports a build.")
    refresh: bool = _option(default=True, text="Make the nodes pull images that have changed.")
    restart_workloads: bool = _option(
        default=False, text="Restart workloads that run an old copy of a rebuilt image."
    )
    attach_all: bool = _option(
        default=False, text="Attach every k3d cluster, including clusters that start later."
    )
    skip: tuple[str, ...] = _option(
        ("tilt-build-*",),
        "Tags that are pushed only when a client pulls them; repeatable.",
        "PATTERN",
    )
    allow_host: tuple[str, ...] = _option(
        (), "Another host name to accept in requests; repeatable.", "NAME"
    )
    state: Path = _option(  # noqa: RUF009  # a Path does not change
        Path("~/.local/state/autoregistry"),
        "The folder of the journals. Each registry name has a folder in it, which one `serve` at a time uses.",
        "DIR",
    )
    container: str | None = None
    """The proxy's name on Docker's networks if it runs in a container. Nodes use it."""
    limits: Limits = Limits()
