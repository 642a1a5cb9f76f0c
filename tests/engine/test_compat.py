"""The undocumented parts of docker-py exist and work as `engine/compat.py` expects."""

from __future__ import annotations

import ast
import pkgutil
import socket
import tomllib
from contextlib import closing
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).parents[2]
PARTS = (
    "docker.context:ContextAPI.kwargs_from_context",
    "docker.context.config:get_current_context_name",
    "docker.transport.unixconn:UnixHTTPAdapter.get_connection",
    "docker.utils:kwargs_from_env",
    "docker.utils.config:load_general_config",
)
DOCUMENTED = {"docker", "docker.errors"}


@pytest.mark.parametrize("part", PARTS)
def test_docker_py_has_each_undocumented_part(part: str) -> None:
    try:
        pkgutil.resolve_name(part)
    except (ImportError, AttributeError) as exc:
        pytest.fail(f"docker-py {docker.__version__} moved {part} ({exc}): see engine/compat.py")


def test_adapter_uses_the_given_connection() -> None:
    from autoregistry.engine.compat import SocketAdapter

    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
    with closing(docker.APIClient("unix:///unused", version="1.40")) as client, theirs:
        client.mount("http+docker://", SocketAdapter(lambda: ours, max_pool_size=1))
        response = client.get(f"{client.base_url}/_ping", timeout=5)

        assert (response.status_code, response.text) == (200, "OK")
        assert theirs.recv(4096).startswith(b"GET /_ping HTTP/1.1\r\n")


def test_all_urls_share_one_pool_of_connections() -> None:
    """Each connection is an ssh login; docker-py has a pool for each URL."""
    from autoregistry.engine.compat import SocketAdapter

    adapter = SocketAdapter(socket.socket, max_pool_size=2)

    assert adapter.get_connection("http+docker://a") is adapter.get_connection("http+docker://b")


def test_next_major_version_of_docker_py_is_excluded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert [d for d in project["dependencies"] if d.startswith("docker")] == ["docker>=7.2,<8"]


def test_only_compat_imports_undocumented_modules() -> None:
    importing = {
        path.name
        for path in (ROOT / "autoregistry" / "engine").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("docker")
        if node.module not in DOCUMENTED
    }

    assert importing == {"compat.py"}
