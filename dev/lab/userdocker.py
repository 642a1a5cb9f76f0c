"""The Docker that the user of this machine already runs, if any. The lab never changes it."""

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
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class UsersDocker:
    """A running daemon that the lab did not start."""

    host: str
    store: Store


@cache
def users_docker() -> UsersDocker | None:
    """Return the daemon that the user's `docker` uses, unless it is one of the lab's."""
    host = _configured_host()
    if host.startswith(f"unix://{RUN}/"):
        host = DEFAULT_HOST
    drivers = driver_status(host)
    if drivers is None:
        return None
    return UsersDocker(host, "containerd" if "io.containerd.snapshotter" in drivers else "classic")


def driver_status(host: str) -> str | None:
    """Return a daemon's storage driver status as text, or None if it does not answer."""
    if host.startswith("unix://"):
        info = get_from_socket(host.removeprefix("unix://"), "/info")
        return None if info is None else str(json.loads(info).get("DriverStatus"))
    if shutil.which("docker") is None:
        return None
    command = ["docker", "-H", host, "info", "--format", "{{json .DriverStatus}}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout


def get_from_socket(path: str, url: str) -> bytes | None:
    """Return the response of a daemon to GET, or None if its status is not 200."""
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_SECONDS)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_TIMEOUT_SECONDS)
        connection.sock.connect(path)
        connection.request("GET", url)
        response = connection.getresponse()
        return response.read() if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _configured_host() -> str:
    """Return the host that Docker's own tools use: DOCKER_HOST, then the current context."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (subprocess.SubprocessError, OSError):
        return DEFAULT_HOST
    return done.stdout.strip() or DEFAULT_HOST
