"""What a user can choose, and what the daemon's machine demands: both kept in labels of the proxy's container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SOCKET_INSIDE = "/var/run/docker.sock"


def _known(kind: type, text: str) -> dict[str, Any]:
    """What a label says, without what this version does not know."""
    names = {field.name for field in fields(kind)}
    return {key: value for key, value in json.loads(text).items() if key in names}


def flags_of(choices: Mapping[str, object]) -> str:
    """The flags of `up` that choose these values of Options, each after a space."""
    words = []
    for name, value in choices.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f" --{flag}" if value else f" --no-{flag}")
        else:
            words.append(f" --{flag} {value}")
    return "".join(words)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose; kept in a label, so that later commands know it."""

    port: int = 5000
    expose: bool = False
    """Published on all addresses, not on 127.0.0.1 only."""
    registry_image: str = "registry:2"
    base_image: str = "python:3.13-slim"
    attach_all: bool = False
    restart_workloads: bool = False
    watch: bool = True
    """Push as soon as Docker reports a build."""
    refresh: bool = True
    """Make the nodes pull what has changed."""
    docker_socket: str | None = None
    """The path of Docker's socket as the daemon sees it; None: found by trying."""

    @property
    def switches(self) -> list[str]:
        """Flags of `serve`, and of `up`, where they are not the default."""
        on = [name for name in ("attach_all", "restart_workloads") if getattr(self, name)]
        off = [f"no_{name}" for name in ("watch", "refresh") if not getattr(self, name)]
        return [f"--{name.replace('_', '-')}" for name in (*on, *off)]

    @property
    def flags(self) -> str:
        """The flags of `up` that choose these again, each after a space; empty for the defaults."""
        default = asdict(Options())
        return flags_of({k: v for k, v in asdict(self).items() if v != default[k]})

    @property
    def name(self) -> str:
        """What images are tagged with."""
        return f"localhost:{self.port}"

    @classmethod
    def read(cls, text: str) -> Options:
        """From a label; what this version does not know is left out."""
        return cls(**_known(cls, text))

    def written(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Host:
    """What the daemon's machine demands of a container that uses its socket."""

    socket: str = SOCKET_INSIDE
    group: int = 0
    """The group that may use the socket, as seen in a container."""
    owner: int | None = None
    """Whom we have to run as, where the socket's group may not use it."""
    selinux: bool = False
    user_namespace: bool = False
    names: tuple[str, ...] = ()
    """The machine's, by which others reach it."""
    start_interval: bool = True
    """Whether Docker (25 and later) can ask more often while a container starts."""

    @classmethod
    def read(cls, text: str) -> Host:
        return cls(**_known(cls, text))

    def written(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)
