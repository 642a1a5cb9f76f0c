"""A script for a container of the proxy's image: which daemon answers at the mounted socket, and who may use it.

    python -m autoregistry.stack.socket_probe  ->  {"id": "...", "group": 998, "owner": 0, "as_user": true, "error": ""}

It imports only the standard library, so that it also starts quickly inside a running proxy.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

SOCKET = "/var/run/docker.sock"
USER = 65532
_SECONDS = 5.0


def daemon_identity(path: str = SOCKET) -> str:
    """Return the daemon's identity. The request is HTTP/1.0, so the response ends with the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(path)
        connection.sendall(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")
        response = b""
        while chunk := connection.recv(65536):
            response += chunk
    return str(json.loads(response.partition(b"\r\n\r\n")[2]).get("ID", ""))


def works_as_user(group: int) -> bool:
    """Return True if a user without rights, but in the socket's group, can use it. Only root can test this."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([group])
            os.setgid(USER)
            os.setuid(USER)
            os._exit(0 if daemon_identity() else 1)
        except (OSError, ValueError):
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    result: dict[str, object] = {"id": "", "group": 0, "owner": 0, "as_user": False, "error": ""}
    try:
        facts = Path(SOCKET).stat()
        result |= {"group": facts.st_gid, "owner": facts.st_uid, "id": daemon_identity()}
        if os.getuid() == 0:
            result["as_user"] = works_as_user(facts.st_gid)
    except (OSError, ValueError) as exc:
        result["error"] = getattr(exc, "strerror", None) or str(exc)
    print(json.dumps(result))  # `docker_socket.py` reads it from the container's log


if __name__ == "__main__":
    main()
