"""Which socket the proxy gets, and what the daemon's machine demands of a container that uses it.

A path is believed only when a throw-away container that has it mounted sees the very daemon we talk to: with
Docker Desktop, Colima, ssh or a context the path here is not the path there (abiosoft/colima#382).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from typing import Any

from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon, DaemonInfo
from autoregistry.errors import DockerRefused, StackRefused
from autoregistry.stack.model import PROXY, ROLE, SOCKET_INSIDE, Host

# moby api/docs/CHANGELOG.md, v1.44: `Healthcheck.StartInterval`.
START_INTERVAL_SINCE = (1, 44)
PROBE = f"{PROXY}-probe"
_PROBE_COMMAND = ["python", "-m", "autoregistry.stack.socket_probe"]
_PROBE_SECONDS = 60.0


def machine_names(info: DaemonInfo, *, is_local: bool) -> tuple[str, ...]:
    """What others call the machine whose ports the daemon's are: its own name, and ours where that is the same."""
    ours = (platform.node(),) if is_local else ()
    return tuple(name for name in (info.name, *ours) if name)


def find_host(daemon: Daemon, image: str, docker_socket: str | None) -> Host:
    """Try the sockets that may be the daemon's own; `image` is the proxy's. Raises StackRefused."""
    facts = daemon.request("GET", "/info").json()
    identity = str(facts.get("ID", ""))
    demands = [str(option) for option in facts.get("SecurityOptions") or []]
    selinux = any("name=selinux" in option for option in demands)
    user_namespace = any("name=userns" in option for option in demands)
    tried = []
    for path in candidates(daemon.host, docker_socket):
        seen = _probe(Containers(daemon), image, path, selinux=selinux, userns=user_namespace)
        if seen["id"] == identity:
            return Host(
                socket=path,
                group=int(seen["group"]),
                owner=None if seen["as_user"] else int(seen["owner"]),
                selinux=selinux,
                user_namespace=user_namespace,
                start_interval=daemon.supports(START_INTERVAL_SINCE),
            )
        tried.append(f"{path}: {seen['error'] or 'another Docker daemon'}")
    raise StackRefused(
        f"a container cannot reach the Docker daemon of {daemon.host} ({'; '.join(tried)})",
        "autoregistry up --docker-socket PATH  (of the socket, as the daemon's machine has it)",
    )


def sees(containers: Containers, container: str) -> str:
    """The identity of the daemon that a running proxy has at its socket; empty where it has none."""
    try:
        ran = containers.exec(container, _PROBE_COMMAND, timeout=_PROBE_SECONDS)
        return str(json.loads(ran.stdout)["id"])
    except (DockerRefused, ValueError, KeyError):
        return ""


def candidates(host: str, docker_socket: str | None) -> Sequence[str]:
    """The paths worth a try: where the daemon is ours locally, and where nearly every other one has it."""
    if docker_socket:
        return [docker_socket]
    named = [host.removeprefix("unix://")] if host.startswith("unix:///") else []
    return list(dict.fromkeys([*named, SOCKET_INSIDE]))


def _probe(
    containers: Containers, image: str, path: str, *, selinux: bool, userns: bool
) -> dict[str, Any]:
    containers.remove(PROBE)
    body = {
        "Image": image,
        "Entrypoint": _PROBE_COMMAND,
        "User": "0:0",
        "NetworkDisabled": True,
        "Labels": {ROLE: "probe"},
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{"Type": "bind", "Source": path, "Target": SOCKET_INSIDE}],
            "SecurityOpt": ["label=disable"] if selinux else [],
            "UsernsMode": "host" if userns else "",
        },
    }
    try:
        container = containers.create(PROBE, body)
        containers.start(container)
        containers.wait(container, _PROBE_SECONDS)
        return dict(json.loads("".join(containers.logs(container)) or "{}"))
    except DockerRefused as exc:
        return {"id": None, "error": exc.message}
    except ValueError:
        return {"id": None, "error": "the trial container said nothing"}
    finally:
        containers.remove(PROBE)
