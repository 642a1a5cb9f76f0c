"""Finding Docker's socket on the daemon's machine, and what a container needs to use it.

With Docker Desktop, Colima, ssh or a context, the daemon's machine has another path than this one
(abiosoft/colima#382). So a path counts only if a trial container that mounts it reaches the daemon that we use.
"""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from typing import Any

from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon, DaemonInfo
from autoregistry.errors import DockerRefused, StackRefused
from autoregistry.stack.model import PROXY, ROLE, mount, security_options
from autoregistry.stack.options import SOCKET_INSIDE, Host

# moby api/docs/CHANGELOG.md, v1.44: `Healthcheck.StartInterval`.
START_INTERVAL_SINCE = (1, 44)
PROBE = f"{PROXY}-probe"
_PROBE_COMMAND = ["python", "-m", "autoregistry.stack.socket_probe"]
_PROBE_SECONDS = 60.0


def machine_names(info: DaemonInfo, *, is_local: bool) -> tuple[str, ...]:
    """Return the names of the machine that publishes the daemon's ports: Docker's name for it, and ours."""
    ours = (platform.node(),) if is_local else ()
    return tuple(name for name in (info.name, *ours) if name)


def find_host(daemon: Daemon, image: str, docker_socket: str | None) -> Host:
    """Try the paths that may be the daemon's socket. `image` is the proxy's. Raises StackRefused."""
    info = daemon.info()
    machine = Host(
        selinux=any("name=selinux" in option for option in info.security_options),
        user_namespace=any("name=userns" in option for option in info.security_options),
        start_interval=daemon.supports(START_INTERVAL_SINCE),
    )
    failures = []
    for path in candidates(daemon.host, docker_socket):
        result = _probe(Containers(daemon), image, replace(machine, socket=path))
        if result["id"] == info.identity:
            owner = None if result["as_user"] else int(result["owner"])
            return replace(machine, socket=path, group=int(result["group"]), owner=owner)
        failures.append(f"{path}: {result['error'] or 'another Docker daemon'}")
    raise StackRefused(
        f"a container cannot reach the Docker daemon of {daemon.host} ({'; '.join(failures)})",
        "autoregistry up --docker-socket PATH  (the path on the daemon's machine)",
    )


def daemon_in(containers: Containers, container: str) -> str:
    """Return the identity of the daemon at a running proxy's socket, or an empty string."""
    try:
        result = containers.exec(container, _PROBE_COMMAND, timeout=_PROBE_SECONDS)
        return str(json.loads(result.stdout)["id"])
    except (DockerRefused, ValueError, KeyError):
        return ""


def candidates(host: str, docker_socket: str | None) -> list[str]:
    """Return the paths to try: the one that the user chose, or a local daemon's own and the usual one."""
    if docker_socket:
        return [docker_socket]
    own = [host.removeprefix("unix://")] if host.startswith("unix:///") else []
    return list(dict.fromkeys([*own, SOCKET_INSIDE]))


def _probe(containers: Containers, image: str, host: Host) -> dict[str, Any]:
    """Return what `socket_probe.py` prints in a trial container with this socket mounted."""
    containers.remove(PROBE)
    body = {
        "Image": image,
        "Entrypoint": _PROBE_COMMAND,
        "User": "0:0",
        "Labels": {ROLE: "probe"},
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [mount(host.socket, SOCKET_INSIDE)],
            **security_options(host),
        },
    }
    try:
        containers.create(PROBE, body)
        containers.start(PROBE)
        containers.wait(PROBE, _PROBE_SECONDS)
        return dict(json.loads("".join(containers.logs(PROBE))))
    except DockerRefused as exc:
        return {"id": None, "error": exc.message}
    except ValueError:
        return {"id": None, "error": "the trial container printed nothing"}
    finally:
        containers.remove(PROBE)
