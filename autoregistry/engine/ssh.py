"""A daemon behind `ssh://`: each connection is an `ssh` that runs `docker system dial-stdio` there, as in Docker's CLI.

docker-py's own support needs paramiko even where it is told to use the ssh client, and reads no `~/.ssh/config`
the way ssh does. What ssh has to say (a refused key, a password prompt) goes to the terminal.
"""

from __future__ import annotations

import socket
import subprocess
from typing import Any
from urllib.parse import urlsplit

from docker.transport import unixconn

_REMOTE = ("docker", "system", "dial-stdio")


def ssh_command(url: str) -> list[str]:
    """The exact words for `ssh://[USER@]HOST[:PORT]`."""
    parts = urlsplit(url)
    user = ["-l", parts.username] if parts.username else []
    port = ["-p", str(parts.port)] if parts.port else []
    return ["ssh", "-T", *user, *port, "--", parts.hostname or "", *_REMOTE]


class SshAdapter(unixconn.UnixHTTPAdapter):
    """Takes the place of docker-py's adapter for a local socket."""

    def __init__(self, url: str, *, max_pool_size: int) -> None:
        super().__init__(f"http+unix://{url}", max_pool_size=max_pool_size)
        self._url = url

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ANN401, ARG002  # docker-py's
        """One pool for all: docker-py has one for each URL, and here each connection is a login."""
        with self.pools.lock:
            if (pool := self.pools.get(self._url)) is None:
                pool = _Pool(self._url, self.max_pool_size)
                self.pools[self._url] = pool
        return pool


class _Pool(unixconn.UnixHTTPConnectionPool):
    def __init__(self, url: str, size: int) -> None:
        super().__init__("localhost", url, maxsize=size)
        self._url = url

    def _new_conn(self) -> Any:  # noqa: ANN401  # docker-py's
        return _Connection(self._url)


class _Connection(unixconn.UnixHTTPConnection):
    def __init__(self, url: str) -> None:
        super().__init__("localhost", url)
        self._url = url

    def connect(self) -> None:
        """One end of a pair of sockets is ssh's input and output, the other one is ours."""
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            process = subprocess.Popen(ssh_command(self._url), stdin=end, stdout=end)
        self.sock = _Socket(ours, process)
        self.sock.settimeout(self.timeout)


class _Socket(socket.socket):
    """Takes ssh with it when its last reader lets go: http.client closes before an answer without a length."""

    def __init__(self, ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
        super().__init__(fileno=ours.detach())
        self._process = process

    def close(self) -> None:
        super().close()
        if self.fileno() < 0:
            self._process.terminate()
            self._process.wait()
