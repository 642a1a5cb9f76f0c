"""The options of `serve`, and its descriptors for all the connections that its limits allow."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from autoregistry.cli import program
from autoregistry.cli.commands.serve import _limits, _names, serve
from autoregistry.errors import SettingInvalid
from autoregistry.settings import Limits


@pytest.fixture
def free_ports() -> list[int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        return [one.getsockname()[1], two.getsockname()[1]]


def test_limit_is_set_by_its_name_and_the_others_keep_their_default() -> None:
    assert Limits() == _limits(())
    assert Limits(connections=9, idle_seconds=7.5) == _limits(("connections=9", "idle-seconds=7.5"))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("connection=9", id="unknown"),
        pytest.param("connections", id="no value"),
        pytest.param("connections=many", id="no number"),
        pytest.param("connections=1.5", id="fraction of a connection"),
        pytest.param("idle-seconds=0", id="zero"),
        pytest.param("idle-seconds=-1", id="negative"),
        pytest.param("idle-seconds=inf", id="infinite"),
        pytest.param("idle-seconds=nan", id="not a number"),
    ],
)
def test_invalid_limit_is_refused_with_the_list_of_names(text: str) -> None:
    with pytest.raises(SettingInvalid, match="connections-per-address") as refused:
        _limits((text,))

    assert text in refused.value.message


def test_help_has_each_limit_with_its_default_and_its_text() -> None:
    text = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())

    for limit in fields(Limits):
        name = limit.name.replace("_", "-")
        assert f"{name}={limit.default:g}: {limit.metadata['help']}" in text.replace("- ", "-")


def test_serve_raises_its_descriptors_to_the_hard_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import resource; from autoregistry.proxy.app import raise_descriptors as raise_them;"
        "raise_them(); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        ["sh", "-c", f'ulimit -Sn 100; exec {sys.executable} -c "{program}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == hard


def _serve(state: Path, port: int) -> subprocess.Popen[str]:
    """Start `serve` without a Docker or a backend, and wait until it serves."""
    command = [sys.executable, "-m", "autoregistry", "serve", "--state", str(state)]
    options = ["--listen", f"127.0.0.1:{port}", "--name", "localhost:5000"]
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent"}
    process = subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr
    while "is served at" not in (line := process.stderr.readline()):
        assert line, "serve has ended"
    return process


def test_second_serve_of_a_registry_is_refused_until_the_first_is_killed(
    tmp_path: Path, free_ports: list[int]
) -> None:
    with _serve(tmp_path, free_ports[0]) as first:
        arguments = ["serve", "--state", str(tmp_path), "--listen", f"127.0.0.1:{free_ports[1]}"]
        refused = CliRunner().invoke(program, [*arguments, "--name", "localhost:5000"])
        first.kill()
    with _serve(tmp_path, free_ports[1]) as second:
        second.kill()

    assert refused.exit_code == 1
    assert f"pid {first.pid} on " in refused.stderr
    assert "hint: autoregistry serve --state DIR" in refused.stderr


@pytest.mark.parametrize("name", ["registry.localhost", ":5000", "localhost:port"])
def test_name_without_a_port_is_refused(name: str) -> None:
    refused = CliRunner().invoke(program, ["serve", "--name", name])

    assert refused.exit_code == 2
    assert f"--name {name} is not HOST:PORT" in refused.stderr


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("localhost:5000", "127.0.0.1:5000"),
        ("localhost:5001", "127.0.0.1:5001"),
        ("registry.test:443", "127.0.0.1:5000"),
    ],
)
def test_alias_of_the_name_has_the_published_port(name: str, alias: str) -> None:
    """In the container of `up --port 5001` the proxy listens on 5000, which is another port on the machine."""
    assert _names(name, 5000).all == (name, alias)
