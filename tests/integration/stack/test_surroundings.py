"""The environment of a daemon and a shell: proxies, broken credential helpers, TCP, another localhost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev import lab
from dev.lab.registry import free_port
from tests.integration.helpers.separate_docker import separate_daemon
from tests.integration.helpers.serving import Serve, build, serving, wait_for

pytestmark = pytest.mark.engine


@contextmanager
def _serve(engine: lab.Docker, registry: lab.Registry, state: Path, **env: str) -> Iterator[Serve]:
    serve = Serve(engine, registry.url, state, ("--no-watch",), environment=env)
    serve.start()
    try:
        yield serve
    finally:
        serve.stop()


def test_http_proxy_in_the_environment_is_ignored(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    dead = dict.fromkeys(names, "http://127.0.0.1:9")

    with _serve(engine, registry, tmp_path, **dead) as serve:
        build(engine, f"{serve.name}/around:proxy", "x")

        assert serve.pull("around:proxy").headers["Autoregistry"] == "pushed"


def test_missing_credential_helper_does_not_prevent_a_push(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credsStore": "is-not-there"}))

    with _serve(engine, registry, tmp_path / "state", DOCKER_CONFIG=str(config)) as serve:
        build(engine, f"{serve.name}/around:helper", "x")

        assert serve.pull("around:helper").headers["Autoregistry"] == "pushed"


def test_loopback_check_finds_that_dockers_localhost_is_this_proxy(serve: Serve) -> None:
    wait_for(lambda: serve.get("/_autoregistry/health").json().get("loop") == "ok", "loop")
    assert "is not this proxy" not in serve.log
    assert "autoregistry-probe" not in serve.log


def test_another_registry_at_dockers_localhost_is_reported(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    """Docker's pushes succeed, but reach the other registry."""
    other = lab.start_registry(tmp_path / "other")
    flags = ("--no-watch", "--name", f"localhost:{other.port}")
    elsewhere = Serve(engine, registry.url, tmp_path, flags)
    elsewhere.start()
    try:
        wait_for(lambda: "is not this proxy" in elsewhere.log, "the error")
        loop = elsewhere.get("/_autoregistry/health").json()["loop"]
        build(engine, f"localhost:{other.port}/around:elsewhere", "x")
        response = elsewhere.get("/v2/around/manifests/elsewhere")
    finally:
        elsewhere.stop()
        other.stop()

    assert loop.startswith(f"Docker's localhost:{other.port} is not this proxy")
    assert "autoregistry up" in elsewhere.log
    assert response.status_code == 403
    assert "to another registry: its localhost is not this machine" in response.reason_phrase


def test_daemon_in_its_own_network_is_reported_and_its_images_are_refused(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    """Docker in a virtual machine is like that: nothing listens at its localhost, so it cannot push."""
    if engine.store != "classic" or not engine.owned:
        pytest.skip("the third daemon uses the programs of the classic one")
    with (
        separate_daemon() as separate,
        serving(separate, registry, tmp_path / "state", "--no-watch") as serve,
    ):
        build(separate, f"{serve.name}/around:separate", "x")
        wait_for(lambda: "is not this proxy" in serve.log, "the error")
        response = serve.pull("around:separate")

    assert (response.status_code, response.headers["Autoregistry"]) == (403, "push-failed")
    assert "connection refused" in response.reason_phrase


def test_unreachable_daemon_leaves_a_plain_registry(
    engine: lab.Docker, registry: lab.Registry, serve: Serve, tmp_path: Path
) -> None:
    build(engine, f"{serve.name}/around:away", "x")
    serve.pull("around:away").raise_for_status()

    with _serve(engine, registry, tmp_path, DOCKER_HOST="tcp://127.0.0.1:9") as alone:
        response = alone.pull("around:away")

    assert response.status_code == 200
    assert response.headers["Autoregistry"] == "docker-unreachable"


def test_daemon_behind_tcp_is_asked_to_push(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    with (
        _as_tcp(str(engine.socket)) as address,
        _serve(engine, registry, tmp_path, DOCKER_HOST=address) as serve,
    ):
        build(engine, f"{serve.name}/around:tcp", "x")

        assert serve.pull("around:tcp").headers["Autoregistry"] == "pushed"


@contextmanager
def _as_tcp(path: str) -> Iterator[str]:
    """Relay the daemon's socket to a port on loopback."""
    port = free_port()
    relay = f"""
import asyncio
async def copy(reader, writer):
    while block := await reader.read(65536):
        writer.write(block); await writer.drain()
    writer.write_eof()
async def connected(reader, writer):
    far_reader, far_writer = await asyncio.open_unix_connection({path!r})
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)
    writer.close(); far_writer.close()
async def main():
    async with await asyncio.start_server(connected, "127.0.0.1", {port}) as server:
        print("ready", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", relay], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield f"tcp://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
