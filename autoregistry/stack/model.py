"""The stack as values: its containers, network, volumes, settings and limits. Pure.

A container is the body of the Engine API's create request; `compose.py` translates it and adds nothing of its own.
Facts of the daemon's machine (the socket's group, SELinux) come in as `Host`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from autoregistry import __version__, api_paths
from autoregistry.stack.options import SOCKET_INSIDE, Host, Options, to_label

PROXY = "autoregistry"
BACKEND = "autoregistry-backend"
NETWORK = "autoregistry"
DATA = "autoregistry-data"
STATE = "autoregistry-state"
VOLUMES = (DATA, STATE)

LABEL = "io.github.k3d-autoregistry"
ROLE = f"{LABEL}.role"
SPECIFICATION = f"{LABEL}.specification"
OPTIONS = f"{LABEL}.options"
HOST = f"{LABEL}.host"
VERSION = f"{LABEL}.version"
LABELS = {ROLE: "stack", VERSION: __version__}
"""The labels of the network and the volumes."""

Request = Mapping[str, Any]
"""The body of `POST /containers/create`."""

PORT_INSIDE = 5000
PORT_KEY = f"{PORT_INSIDE}/tcp"
SECOND = 1_000_000_000
# The proxy takes up to ten seconds to finish and report what it cut off; by default Docker kills it after ten.
GRACE_SECONDS = 15
_MIB = 1024 * 1024
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


def stack_for(options: Options, host: Host, image: str) -> dict[str, Request]:
    """Return the two containers for these options and this machine by their names. `image` is the proxy's."""
    return {BACKEND: _backend(options, host), PROXY: _proxy(options, host, image)}


def security_options(host: Host) -> dict[str, object]:
    """Return the entries of `HostConfig` that a container needs to use Docker's socket."""
    return {
        "SecurityOpt": ["no-new-privileges:true", *(["label=disable"] if host.selinux else [])],
        "UsernsMode": "host" if host.user_namespace else "",
    }


def _service(
    name: str,
    host: Host,
    *,
    check: tuple[str, ...],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    unhashed: Mapping[str, str],
    host_config: Mapping[str, object],
    body: Mapping[str, object],
) -> Request:
    """Return a container with a read-only root file system and no capabilities, that Docker restarts.

    k3d's labels make `k3d registry list` show it, and `k3d cluster delete` disconnect it. A further label is a hash of
    everything that it consists of, except for the `unhashed` labels: a change of these needs no other container.
    """
    # Each check costs 0.1 s of a core; with a single interval, `up` waits for the first.
    interval, start = (15, {"StartInterval": SECOND // 2}) if host.start_interval else (5, {})
    labels = {"app": "k3d", "k3d.role": "registry", "k3d.cluster": "", **labels}
    request = {
        "Cmd": None,
        "Hostname": name,  # the proxy uses it as its name on Docker's networks (cli/docker.py)
        "User": "",
        "StopTimeout": GRACE_SECONDS,
        "Env": [f"{key}={value}" for key, value in {**environment, **NO_PROXIES}.items()],
        "ExposedPorts": {PORT_KEY: {}},
        "Healthcheck": {
            "Test": ["CMD", *check],
            "Interval": interval * SECOND,
            **start,
            "Timeout": 5 * SECOND,
            "Retries": 3,
            "StartPeriod": 30 * SECOND,
        },
        "HostConfig": {
            "NetworkMode": NETWORK,
            "PortBindings": {},
            "Tmpfs": {"/tmp": ""},  # noqa: S108  # the container's own
            "RestartPolicy": {"Name": "unless-stopped"},
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "GroupAdd": [],
            # A limit, because the log has a line per request.
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
            **host_config,
        },
        **body,
    }
    text = json.dumps({**request, "Labels": labels}, sort_keys=True)
    specification = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {**request, "Labels": {**labels, SPECIFICATION: specification, **unhashed}}


def mount(source: str, target: str) -> dict[str, str]:
    """Return a mount of a volume or path. With `Binds`, Docker would create a folder for a missing path."""
    kind = "bind" if source.startswith("/") else "volume"
    return {"Type": kind, "Source": source, "Target": target}


def _backend(options: Options, host: Host) -> Request:
    return _service(
        BACKEND,
        host,
        check=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT_INSIDE}/v2/"),
        environment={
            "REGISTRY_STORAGE_DELETE_ENABLED": "true",  # for the user's own tools
            "OTEL_TRACES_EXPORTER": "none",  # else registry 3 looks for a collector
        },
        labels={ROLE: "backend"},
        unhashed={},
        host_config={
            "Mounts": [mount(DATA, "/var/lib/registry")],
            **security_options(Host()),
            "Memory": 1024 * _MIB,  # page cache counts, but makes room
            "PidsLimit": 4096,  # Go has a thread for each file read that waits, and crashes if it gets none
        },
        body={"Image": options.registry_image},
    )


def _machine_names(options: Options, host: Host) -> list[str]:
    """Return the flags of `serve` that allow the machine's names in requests, if the port is exposed."""
    full = {name.lower() for name in host.names if options.expose}
    short = {name.partition(".")[0] for name in full}
    names = sorted(full | short | {f"{name}.local" for name in short})
    return [word for name in names for word in ("--allow-host", name)]


def _proxy(options: Options, host: Host, image: str) -> Request:
    address = "" if options.expose else "127.0.0.1"
    return _service(
        PROXY,
        host,
        check=("python", "-I", "-S", "-c", _HEALTH_SCRIPT),
        environment={"DOCKER_HOST": f"unix://{SOCKET_INSIDE}"},
        labels={
            ROLE: "proxy",
            # The port of the machine that leads to us (k3d pkg/types/types.go; "k3s" is k3d's own spelling).
            "k3d.registry.host": "",
            "k3d.registry.hostIP": address or "0.0.0.0",  # noqa: S104
            "k3s.registry.port.external": str(options.port),
            "k3s.registry.port.internal": str(PORT_INSIDE),
            VERSION: __version__,
        },
        unhashed={OPTIONS: to_label(options), HOST: to_label(host)},
        host_config={
            "PortBindings": {PORT_KEY: [{"HostIp": address, "HostPort": str(options.port)}]},
            "Mounts": [mount(STATE, "/state"), mount(host.socket, SOCKET_INSIDE)],
            "GroupAdd": [str(host.group)],
            **security_options(host),
            "Memory": 512 * _MIB,  # 100 MB were used at most (benchmarks/results/proxy.md)
            "PidsLimit": 512,  # about 100 threads
        },
        body={
            "Image": image,
            "User": f"{host.user}:{host.user}",
            "Cmd": [
                "serve",
                *("--listen", f"0.0.0.0:{PORT_INSIDE}", "--name", options.name),
                *("--backend", f"http://{BACKEND}:{PORT_INSIDE}"),
                *("--state", "/state", *options.switches),
                *_machine_names(options, host),
            ],
        },
    )
