"""The undocumented parts of docker-py that this package uses. `tests/engine/test_compat.py` checks that they exist.

`pyproject.toml` excludes the next major version of docker-py, which may move them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import urllib3
from docker.context import ContextAPI as ContextAPI
from docker.context.config import get_current_context_name as get_current_context_name
from docker.transport import unixconn
from docker.utils import kwargs_from_env as kwargs_from_env
from docker.utils.config import load_general_config as load_general_config

Connect = Callable[[], socket.socket]
_POOL = "pool"


class SocketAdapter(unixconn.UnixHTTPAdapter):
    """docker-py's adapter for a local socket, with connections that `connect` makes."""

    def __init__(self, connect: Connect, *, max_pool_size: int) -> None:
        super().__init__("http+unix:///unused")

        class Connection(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                self.sock = connect()
                self.sock.settimeout(self.timeout)

        pool = urllib3.HTTPConnectionPool("localhost", maxsize=max_pool_size)
        pool.ConnectionCls = Connection
        self.pools[_POOL] = pool

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ANN401, ARG002  # docker-py's
        """Return the one pool. docker-py has a pool per URL, which would cost an ssh login each."""
        return self.pools[_POOL]
