"""Runs in a container of the proxy's image: which daemon answers at the mounted socket, and who may ask it.

    python -m autoregistry.stack.socket_probe  ->  {"id": "...", "group": 998, "owner": 0, "as_user": true, "error": ""}

Refuses to import anything but the standard library: it is also the quickest look from inside a running proxy.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

SOCKET = "/var/run/docker.sock"
USER = 65532
_SECONDS = 5.0


def ask(path: str = SOCKET) -> str:
    """The daemon's identity; an HTTP/1.0 answer ends with the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(path)
        connection.sendall(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return str(json.loads(answer.partition(b"\r\n\r\n")[2]).get("ID", ""))


def works_as_user(group: int) -> bool:
    """Whether a user without rights, but in the socket's group, may use it; only root can try."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([group])
            os.setgid(USER)
            os.setuid(USER)
            os._exit(0 if ask() else 1)
        except (OSError, ValueError):
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    seen: dict[str, object] = {"id": "", "group": 0, "owner": 0, "as_user": False, "error": ""}
    try:
        facts = Path(SOCKET).stat()
        seen |= {"group": facts.st_gid, "owner": facts.st_uid, "id": ask()}
        if os.getuid() == 0:
            seen["as_user"] = works_as_user(facts.st_gid)
    except (OSError, ValueError) as exc:
        seen["error"] = getattr(exc, "strerror", None) or str(exc)
    print(json.dumps(seen))  # the answer is read from the container's log


if __name__ == "__main__":
    main()
