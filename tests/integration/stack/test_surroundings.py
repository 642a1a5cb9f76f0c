"""What stands around a daemon and a shell: proxies, broken credential helpers, TCP, somebody else's localhost."""

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
from tests.integration.helpers.separate_docker import daemon_apart
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


def test_a_dead_proxy_in_the_environment_diverts_nothing(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    dead = dict.fromkeys(names, "http://127.0.0.1:9")

    with _serve(engine, registry, tmp_path, **dead) as serve:
        build(engine, f"{serve.name}/around:proxy", "x")

        assert serve.pull("around:proxy").headers["Autoregistry"] == "pushed"


def test_a_missing_credential_helper_stops_nothing(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credsStore": "is-not-there"}))

    with _serve(engine, registry, tmp_path / "state", DOCKER_CONFIG=str(config)) as serve:
        build(engine, f"{serve.name}/around:helper", "x")

        assert serve.pull("around:helper").headers["Autoregistry"] == "pushed"


def test_dockers_own_localhost_is_found_to_be_us(serve: Serve) -> None:
    wait_for(lambda: serve.get("/_autoregistry/health").json().get("loop") == "ok", "loop")
    assert "is not this proxy" not in serve.log
    assert "autoregistry-probe" not in serve.log


def test_a_daemon_whose_localhost_is_somebody_else_is_one_named_error(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    """There is a registry, and Docker's pushes go well; they only never arrive here."""
    somebody = lab.start_registry(tmp_path / "somebody")
    flags = ("--no-watch", "--name", f"localhost:{somebody.port}")
    elsewhere = Serve(engine, registry.url, tmp_path, flags)
    elsewhere.start()
    try:
        wait_for(lambda: "is not this proxy" in elsewhere.log, "the named error")
        said = elsewhere.get("/_autoregistry/health").json()["loop"]
        build(engine, f"localhost:{somebody.port}/around:elsewhere", "x")
        answer = elsewhere.get("/v2/around/manifests/elsewhere")
    finally:
        elsewhere.stop()
        somebody.stop()

    assert said.startswith(f"Docker's localhost:{somebody.port} is not this proxy")
    assert "autoregistry up" in elsewhere.log
    assert answer.status_code == 403
    assert "it did not arrive" in answer.reason_phrase


def test_a_daemon_in_a_network_of_its_own_is_the_same_error_and_a_refusal(
    engine: lab.Docker, registry: lab.Registry, tmp_path: Path
) -> None:
    """As in a virtual machine: nobody is at its localhost, so what it built can be had nowhere."""
    if engine.store != "classic" or not engine.owned:
        pytest.skip("a third daemon is made of the older one's programs")
    with (
        daemon_apart() as apart,
        serving(apart, registry, tmp_path / "state", "--no-watch") as serve,
    ):
        build(apart, f"{serve.name}/around:apart", "x")
        wait_for(lambda: "is not this proxy" in serve.log, "the named error")
        answer = serve.pull("around:apart")

    assert (answer.status_code, answer.headers["Autoregistry"]) == (403, "push-failed")
    assert "connection refused" in answer.reason_phrase


def test_a_daemon_that_is_away_leaves_a_plain_registry(
    engine: lab.Docker, registry: lab.Registry, serve: Serve, tmp_path: Path
) -> None:
    build(engine, f"{serve.name}/around:away", "x")
    serve.pull("around:away").raise_for_status()

    with _serve(engine, registry, tmp_path, DOCKER_HOST="tcp://127.0.0.1:9") as alone:
        answer = alone.pull("around:away")

    assert answer.status_code == 200
    assert answer.headers["Autoregistry"] == "docker-unreachable"


def test_a_daemon_over_tcp_gets_its_pushes(
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
    """The daemon's socket on a port of loopback."""
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
