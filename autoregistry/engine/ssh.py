"""Connections to a daemon at `ssh://`: each is an `ssh` that runs `docker system dial-stdio`, as in Docker's CLI.

docker-py's own support needs paramiko even with its ssh client option, and does not read `~/.ssh/config` as ssh
does. What ssh prints (a refused key, a password prompt) goes to the terminal.
"""

from __future__ import annotations

import socket
import subprocess
from urllib.parse import urlsplit

_REMOTE = ("docker", "system", "dial-stdio")


def ssh_command(url: str) -> list[str]:
    """Return the command line for `ssh://[USER@]HOST[:PORT]`."""
    parts = urlsplit(url)
    user = ["-l", parts.username] if parts.username else []
    port = ["-p", str(parts.port)] if parts.port else []
    return ["ssh", "-T", *user, *port, "--", parts.hostname or "", *_REMOTE]


def connect(url: str) -> socket.socket:
    """Start an ssh, with one end of a socket pair as its input and output, and return the other end."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        process = subprocess.Popen(ssh_command(url), stdin=end, stdout=end)
    return _Socket(ours, process)


class _Socket(socket.socket):
    """A socket that ends ssh with its last reader: http.client closes before a response without a length ends."""

    def __init__(self, ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(fileno=ours.detach())
        self._process = process

    def close(self) -> None:
        super().close()
        if self.fileno() < 0:
            self._process.terminate()
            self._process.wait()
