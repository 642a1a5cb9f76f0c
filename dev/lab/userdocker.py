"""The Docker that this machine's user already has, if any: asked first, never changed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Literal

from dev.lab.cache import RUN

Store = Literal["classic", "containerd"]
DEFAULT_HOST = "unix:///var/run/docker.sock"
_ASK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class UsersDocker:
    """A living daemon that the lab did not start."""

    host: str
    store: Store


@cache
def users_docker() -> UsersDocker | None:
    """The daemon that the user's own `docker` would talk to; the lab's own do not count."""
    host = _configured_host()
    if host.startswith(f"unix://{RUN}/"):
        host = DEFAULT_HOST
    drivers = driver_status(host)
    if drivers is None:
        return None
    return UsersDocker(host, "containerd" if "io.containerd.snapshotter" in drivers else "classic")


def driver_status(host: str) -> str | None:
    """What a daemon says about its storage, as text; nothing if it does not answer."""
    if host.startswith("unix://"):
        answer = ask(host.removeprefix("unix://"), "/info")
        return None if answer is None else str(json.loads(answer).get("DriverStatus"))
    if shutil.which("docker") is None:
        return None
    command = ["docker", "-H", host, "info", "--format", "{{json .DriverStatus}}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout


def ask(path: str, question: str) -> bytes | None:
    """GET from a daemon's socket; nothing if it does not answer with 200."""
    connection = http.client.HTTPConnection("localhost", timeout=_ASK_SECONDS)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_ASK_SECONDS)
        connection.sock.connect(path)
        connection.request("GET", question)
        answer = connection.getresponse()
        return answer.read() if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _configured_host() -> str:
    """Found as Docker's own tools find it: DOCKER_HOST, then the current context."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (subprocess.SubprocessError, OSError):
        return DEFAULT_HOST
    return done.stdout.strip() or DEFAULT_HOST
