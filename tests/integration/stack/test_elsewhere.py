"""The commands without the source tree, and without access to 127.0.0.1: a wheel, a container, another network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev import lab
from tests.helpers.docs import ROOT
from tests.integration.helpers.command_line import CommandLine, check_every_command

pytestmark = pytest.mark.engine

# Runs a command in a separate network, in which only the daemon can be reached, by TCP.
_SEPARATE_NETWORK = """
import os, socket, subprocess, sys, threading
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
def serve(server):
    while True:
        near, _ = server.accept()
        far = socket.socket(socket.AF_UNIX)
        far.connect(sys.argv[1])
        for pair in ((near, far), (far, near)):
            threading.Thread(target=copy, args=pair, daemon=True).start()
server = socket.create_server(("127.0.0.1", 2375))
threading.Thread(target=serve, args=(server,), daemon=True).start()
environment = {**os.environ, "DOCKER_HOST": "tcp://127.0.0.1:2375"}
sys.exit(subprocess.run(sys.argv[2:], env=environment).returncode)
"""


@pytest.fixture
def wheel_environment(stack: CommandLine, tmp_path: Path) -> dict[str, str]:
    """A new virtual environment with the wheel and its dependencies, without the source tree."""
    if stack.engine.store == "classic":
        pytest.skip("the wheel is the same for both stores")
    venv = tmp_path / "venv"
    for argv in (
        ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        ["-m", "venv", "--without-pip", str(venv)],
    ):
        subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    pip = ["-m", "pip", "--python", str(venv), "install", "--quiet", str(wheel)]
    subprocess.run([sys.executable, *pip], check=True, capture_output=True)
    path = f"{venv / 'bin'}:{lab.tool('k3d').parent}:{os.environ['PATH']}"
    return {**os.environ, **stack.engine.environment, "PATH": path}


def test_installed_wheel_is_a_k3d_plugin_and_the_same_program(
    wheel_environment: dict[str, str], stack: CommandLine, tmp_path: Path
) -> None:
    """The same program: `up` finds the image that was built from the source tree."""

    def run(*argv: str) -> str:
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env=wheel_environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = (tmp_path / "venv/bin/autoregistry").read_text().partition("\n")[0]
    location = run(
        program.removeprefix("#!"), "-c", "import autoregistry; print(autoregistry.__file__)"
    )

    assert location.startswith(str(tmp_path / "venv"))
    assert (
        run("k3d", "autoregistry", "up") == f"localhost:{stack.port} is up, nothing had to change\n"
    )
    assert json.loads(run("autoregistry", "status", "--json"))["proxy"]["backend"] == "ok"
    assert "mirrors:" in run("autoregistry", "generate", "registries")


def test_commands_work_in_a_container_that_has_only_the_socket(stack: CommandLine) -> None:
    image = stack.inspect("autoregistry")["Config"]["Image"]
    mount = f"{stack.engine.socket}:/var/run/docker.sock"
    options = ("run", "--rm", "--network", "none", "--user", "0:0", "--volume", mount, image)

    def run(*arguments: str) -> str:
        done = stack.engine.cli(*options, *arguments, check=arguments != ("doctor",))
        return done.stdout + done.stderr

    check_every_command(run, stack)


def test_commands_work_with_a_daemon_behind_tcp_in_another_network(stack: CommandLine) -> None:
    if stack.engine.store == "classic":
        pytest.skip("the connection is the same for both stores")

    def run(*arguments: str) -> str:
        command = [
            "unshare",
            "--net",
            sys.executable,
            "-c",
            _SEPARATE_NETWORK,
            str(stack.engine.socket),
        ]
        argv = [*command, sys.executable, "-m", "autoregistry", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0 or arguments == ("doctor",), done.stderr
        return done.stdout + done.stderr

    check_every_command(run, stack)
