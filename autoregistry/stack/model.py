"""The stack as one value: which containers, on which network, with which volumes, settings and limits.

`body.py` renders it for Docker and `compose.py` as a compose file; neither adds anything of its own. Refuses to
look at any daemon: what depends on it (the socket's group, SELinux) comes in as `Host`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from autoregistry import __version__, api_paths
from autoregistry.stack.options import SOCKET_INSIDE as SOCKET_INSIDE
from autoregistry.stack.options import Host as Host
from autoregistry.stack.options import Options as Options

PROXY = "autoregistry"
BACKEND = "autoregistry-backend"
NETWORK = "autoregistry"
DATA = "autoregistry-data"
STATE = "autoregistry-state"

LABEL = "io.github.k3d-autoregistry"
ROLE = f"{LABEL}.role"
SPECIFICATION = f"{LABEL}.specification"
OPTIONS = f"{LABEL}.options"
HOST = f"{LABEL}.host"
VERSION = f"{LABEL}.version"

PORT_INSIDE = 5000
# The proxy ends what is under way within ten, and says what it cut off; Docker would kill it at ten.
STOP_SECONDS = 15
USER = 65532
NO_NEW_PRIVILEGES = "no-new-privileges:true"
# What every program looks for; empty, because whom we talk to is next door (k3d-io/k3d#184).
NO_PROXIES = {
    written: ""
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
    for written in (name, name.upper())
}
# Without `site` and urllib this takes 15 ms; it runs every few seconds, for ever.
_ASK = (
    "import socket, sys; s = socket.create_connection(('127.0.0.1', 5000), 4); "
    f"s.sendall(b'GET {api_paths.HEALTH} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n'); "
    "sys.exit(b' 200 ' not in s.recv(64))"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume, or with an absolute source a path of the daemon's machine."""

    source: str
    target: str

    @property
    def is_path(self) -> bool:
        return self.source.startswith("/")


@dataclass(frozen=True, slots=True)
class Health:
    """How Docker finds out that a container does its work."""

    test: tuple[str, ...]
    interval: int
    start_interval: float | None
    """For the first seconds; None where Docker knows only one interval."""
    timeout: int = 5
    retries: int = 3
    start_period: int = 30


@dataclass(frozen=True, slots=True)
class Log:
    """Where Docker keeps what a container prints, and how much of it."""

    driver: str = "json-file"
    options: tuple[tuple[str, str], ...] = (("max-size", "10m"), ("max-file", "2"))


# A line per request adds up in weeks.
LOG = Log()


@dataclass(frozen=True, slots=True)
class Service:
    """One container; its root file system is read-only, it has no capabilities, and Docker restarts it."""

    name: str
    role: str
    image: str
    health: Health
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    published: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of the machine that lead to our port."""
    user: str | None = None
    groups: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    security: tuple[str, ...] = (NO_NEW_PRIVILEGES,)
    user_namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None
    restart: str = "unless-stopped"
    stop_seconds: int = STOP_SECONDS
    is_read_only: bool = True
    dropped: tuple[str, ...] = ("ALL",)
    log: Log = LOG


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything `up` makes, in the order it is made."""

    options: Options
    services: tuple[Service, ...]
    volumes: tuple[str, ...] = (DATA, STATE)
    network: str = NETWORK

    @property
    def labels(self) -> dict[str, str]:
        """On network and volumes."""
        return {ROLE: "stack", VERSION: __version__}


def stack(options: Options, host: Host, image: str) -> Stack:
    """The stack of these options on that machine; `image` is the proxy's."""
    return Stack(options, (_backend(options, host), _proxy(options, host, image)))


def _health(host: Host, *test: str) -> Health:
    """A check costs 0.1 s of a core, for ever; with one interval, `up` has to wait for the first one."""
    interval, start_interval = (15, 0.5) if host.start_interval else (5, None)
    return Health(test, interval, start_interval)


def _backend(options: Options, host: Host) -> Service:
    return _marked(
        Service(
            name=BACKEND,
            role="backend",
            image=options.registry_image,
            health=_health(
                host, "CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:5000/v2/"
            ),
            environment={
                "REGISTRY_STORAGE_DELETE_ENABLED": "true",  # a user's tools may
                "OTEL_TRACES_EXPORTER": "none",  # registry 3 looks for a collector otherwise
                **NO_PROXIES,
            },
            mounts=(Mount(DATA, "/var/lib/registry"),),
            tmpfs=("/tmp",),  # noqa: S108  # the container's own
        ),
        {},
    )


def _machine_names(options: Options, host: Host) -> list[str]:
    """Flags of `serve`: by which names of the machine others come, where they are let in at all."""
    whole = {name.lower() for name in host.names if options.expose}
    short = {name.partition(".")[0] for name in whole}
    names = sorted(whole | short | {f"{name}.local" for name in short})
    return [word for name in names for word in ("--allow-host", name)]


def _proxy(options: Options, host: Host, image: str) -> Service:
    user = USER if host.owner is None else host.owner
    marked = _marked(
        Service(
            name=PROXY,
            role="proxy",
            image=image,
            health=_health(host, "CMD", "python", "-I", "-S", "-c", _ASK),
            command=(
                "serve",
                *("--listen", f"0.0.0.0:{PORT_INSIDE}", "--name", options.name),
                *("--backend", f"http://{BACKEND}:{PORT_INSIDE}"),
                *("--state", "/state", *options.switches),
                *_machine_names(options, host),
            ),
            environment={"DOCKER_HOST": f"unix://{SOCKET_INSIDE}", **NO_PROXIES},
            mounts=(Mount(STATE, "/state"), Mount(host.socket, SOCKET_INSIDE)),
            published=(("" if options.expose else "127.0.0.1", options.port),),
            user=f"{user}:{user}",
            groups=(str(host.group),),
            tmpfs=("/tmp",),  # noqa: S108  # the container's own
            security=(NO_NEW_PRIVILEGES, *(["label=disable"] if host.selinux else [])),
            user_namespace="host" if host.user_namespace else "",
            needs=BACKEND,
        ),
        {
            # Which port of the machine leads to us (k3d pkg/types/types.go; "k3s" is k3d's own spelling).
            "k3d.registry.host": "",
            "k3d.registry.hostIP": "0.0.0.0" if options.expose else "127.0.0.1",  # noqa: S104
            "k3s.registry.port.external": str(options.port),
            "k3s.registry.port.internal": str(PORT_INSIDE),
            VERSION: __version__,
        },
    )
    # Not in the hash: what is only remembered makes no other container.
    return replace(
        marked, labels={**marked.labels, OPTIONS: options.written(), HOST: host.written()}
    )


def _marked(service: Service, labels: Mapping[str, str]) -> Service:
    """With the labels that make it ours, and k3d's; the hash is of everything that it is made of.

    `k3d registry list` shows what is labelled like this, and `k3d cluster delete` lets go of it.
    """
    ours = {"app": "k3d", "k3d.role": "registry", "k3d.cluster": "", ROLE: service.role, **labels}
    text = json.dumps(asdict(replace(service, labels=ours)), sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:16]
    return replace(service, labels={**ours, SPECIFICATION: mark})
