"""The options of a user, and the requirements of the daemon's machine. Labels of the proxy's container keep both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TypeVar

from autoregistry.names import RegistryNames
from autoregistry.settings import DEFAULT_PORT, Settings
from autoregistry.stack.socket_probe import USER

SOCKET_INSIDE = "/var/run/docker.sock"
_DEFAULTS = Settings()
_T = TypeVar("_T", "Options", "Host")


def to_label(value: Options | Host) -> str:
    return json.dumps(asdict(value), sort_keys=True)


def from_label(kind: type[_T], text: str) -> _T:
    """Return the value in a label, without the fields that this version does not know."""
    names = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in json.loads(text).items() if key in names})


def flags_of(options: Mapping[str, object]) -> str:
    """Return the flags of `up` for these values of Options, each after a space."""
    flags = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f" --{flag}" if value else f" --no-{flag}")
        else:
            flags.append(f" --{flag} {value}")
    return "".join(flags)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a user, kept in a label for later commands."""

    port: int = DEFAULT_PORT
    expose: bool = False
    registry_image: str = "registry:2"
    base_image: str = "python:3.13-slim"
    attach_all: bool = _DEFAULTS.attach_all
    restart_workloads: bool = _DEFAULTS.restart_workloads
    watch: bool = _DEFAULTS.watch
    refresh: bool = _DEFAULTS.refresh
    docker_socket: str | None = None
    """The path of Docker's socket on the daemon's machine; None to detect it."""

    @property
    def switches(self) -> list[str]:
        """The flags of `serve` for the switches that differ from the default."""
        names = ("attach_all", "restart_workloads", "watch", "refresh")
        return flags_of({k: v for k, v in self._changed().items() if k in names}).split()

    @property
    def flags(self) -> str:
        """The flags of `up` that choose these options again, each after a space; empty for the defaults."""
        return flags_of(self._changed())

    @property
    def names(self) -> RegistryNames:
        return RegistryNames.local(self.port)

    @property
    def name(self) -> str:
        """The name that images are tagged with."""
        return self.names.primary

    def _changed(self) -> dict[str, object]:
        default = asdict(Options())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


@dataclass(frozen=True, slots=True)
class Host:
    """The requirements of the daemon's machine for a container that uses its socket."""

    socket: str = SOCKET_INSIDE
    group: int = 0
    """The group that may use the socket, as a container sees it."""
    owner: int | None = None
    """The user to run as, if the socket's group may not use it."""
    selinux: bool = False
    user_namespace: bool = False
    names: tuple[str, ...] = ()
    """The names by which other machines reach it."""
    start_interval: bool = True
    """True if Docker (25 and later) can check more often while a container starts."""

    @property
    def user(self) -> int:
        """The user that the proxy runs as."""
        return USER if self.owner is None else self.owner
