"""The stack as one value: its containers, network, volumes, settings and limits. Pure.

`create_request.py` renders it for Docker and `compose.py` as a compose file; neither adds anything of its own.
Facts of the daemon's machine (the socket's group, SELinux) come in as `Host`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from autoregistry import __version__, api_paths
from autoregistry.stack.options import SOCKET_INSIDE, Host, Options, to_label
from autoregistry.stack.socket_probe import USER

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
# The proxy takes up to ten seconds to finish and report what it cut off; by default Docker kills it after ten.
GRACE_SECONDS = 15
_MIB = 1024 * 1024
NO_NEW_PRIVILEGES = "no-new-privileges:true"
# Docker passes the CLI's proxies to containers; these have only local peers (k3d-io/k3d#184).
NO_PROXIES = {
    variable: ""
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
    for variable in (name, name.upper())
}
# It runs every few seconds; without `site` and urllib it takes 15 ms.
_HEALTH_SCRIPT = (
    f"import socket, sys; s = socket.create_connection(('127.0.0.1', {PORT_INSIDE}), 4); "
    f"s.sendall(b'GET {api_paths.HEALTH} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n'); "
    "sys.exit(b' 200 ' not in s.recv(64))"
)
_BACKEND_CHECK = f"http://127.0.0.1:{PORT_INSIDE}/v2/"


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume, or, with an absolute source, a path on the daemon's machine."""

    source: str
    target: str

    @property
    def is_path(self) -> bool:
        return self.source.startswith("/")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The command that tells Docker if a container works, and its intervals in seconds."""

    test: tuple[str, ...]
    interval: int
    start_interval: float | None
    """During `start_period`; None if Docker has only one interval."""
    timeout: int = 5
    retries: int = 3
    start_period: int = 30


@dataclass(frozen=True, slots=True)
class Service:
    """One container, with a read-only root file system and no capabilities, that Docker restarts."""

    name: str
    role: str
    image: str
    health: HealthCheck
    memory: int
    """The limit, in bytes."""
    pids: int
    """The limit of processes and threads."""
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    published: tuple[tuple[str, int], ...] = ()
    """The addresses and ports of the machine that lead to PORT_INSIDE."""
    user: str | None = None
    groups: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108  # the container's own
    security: tuple[str, ...] = (NO_NEW_PRIVILEGES,)
    user_namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None
    restart: str = "unless-stopped"
    stop_seconds: int = GRACE_SECONDS
    is_read_only: bool = True
    dropped: tuple[str, ...] = ("ALL",)
    log_driver: str = "json-file"
    log_options: tuple[tuple[str, str], ...] = (("max-size", "10m"), ("max-file", "2"))
    """A limit, because the log has a line per request."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that `up` creates, in order."""

    options: Options
    services: tuple[Service, ...]
    volumes: tuple[str, ...] = (DATA, STATE)
    network: str = NETWORK

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the network and the volumes."""
        return {ROLE: "stack", VERSION: __version__}


def stack_for(options: Options, host: Host, image: str) -> Stack:
    """Return the stack for these options and this machine. `image` is the proxy's."""
    return Stack(options, (_backend(options, host), _proxy(options, host, image)))


def _health_check(host: Host, *test: str) -> HealthCheck:
    """Return a health check. Each run costs 0.1 s of a core; with a single interval, `up` waits for the first."""
    interval, start_interval = (15, 0.5) if host.start_interval else (5, None)
    return HealthCheck(test, interval, start_interval)


def _backend(options: Options, host: Host) -> Service:
    return _with_labels(
        Service(
            name=BACKEND,
            role="backend",
            image=options.registry_image,
            health=_health_check(host, "CMD", "wget", "-q", "-O", "/dev/null", _BACKEND_CHECK),
            memory=1024 * _MIB,  # page cache counts, but makes room
            pids=4096,  # Go has a thread for each file read that waits, and crashes if it gets none
            environment={
                "REGISTRY_STORAGE_DELETE_ENABLED": "true",  # for the user's own tools
                "OTEL_TRACES_EXPORTER": "none",  # else registry 3 looks for a collector
                **NO_PROXIES,
            },
            mounts=(Mount(DATA, "/var/lib/registry"),),
        ),
        {},
    )


def _machine_names(options: Options, host: Host) -> list[str]:
    """Return the flags of `serve` that allow the machine's names in requests, if the port is exposed."""
    full = {name.lower() for name in host.names if options.expose}
    short = {name.partition(".")[0] for name in full}
    names = sorted(full | short | {f"{name}.local" for name in short})
    return [word for name in names for word in ("--allow-host", name)]


def _proxy(options: Options, host: Host, image: str) -> Service:
    user = USER if host.owner is None else host.owner
    service = _with_labels(
        Service(
            name=PROXY,
            role="proxy",
            image=image,
            health=_health_check(host, "CMD", "python", "-I", "-S", "-c", _HEALTH_SCRIPT),
            memory=512 * _MIB,  # 100 MB were used at most (benchmarks/results/proxy.md)
            pids=512,  # about 100 threads
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
            security=(NO_NEW_PRIVILEGES, *(["label=disable"] if host.selinux else [])),
            user_namespace="host" if host.user_namespace else "",
            needs=BACKEND,
        ),
        {
            # The port of the machine that leads to us (k3d pkg/types/types.go; "k3s" is k3d's own spelling).
            "k3d.registry.host": "",
            "k3d.registry.hostIP": "0.0.0.0" if options.expose else "127.0.0.1",  # noqa: S104
            "k3s.registry.port.external": str(options.port),
            "k3s.registry.port.internal": str(PORT_INSIDE),
            VERSION: __version__,
        },
    )
    # Added after the hash, because a change of them alone needs no other container.
    labels = {**service.labels, OPTIONS: to_label(options), HOST: to_label(host)}
    return replace(service, labels=labels)


def _with_labels(service: Service, labels: Mapping[str, str]) -> Service:
    """Return the service with our labels and k3d's, and with a hash of everything that it consists of.

    k3d's labels make `k3d registry list` show it, and `k3d cluster delete` disconnect it.
    """
    labels = {"app": "k3d", "k3d.role": "registry", "k3d.cluster": "", ROLE: service.role, **labels}
    text = json.dumps(asdict(replace(service, labels=labels)), sort_keys=True)
    summary = hashlib.sha256(text.encode()).hexdigest()[:16]
    return replace(service, labels={**labels, SPECIFICATION: summary})
