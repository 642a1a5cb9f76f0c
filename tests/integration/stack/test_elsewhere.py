"""The commands away from the source tree and from 127.0.0.1: the wheel alone, and a container with only the socket."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dev import lab
from tests.helpers.docs import ROOT
from tests.integration.helpers.serving import build, wait_for
from tests.integration.stack import test_stack
from tests.integration.stack.test_stack import Typed

pytestmark = pytest.mark.engine

# In a network of its own, where only the daemon answers, by TCP: run a command there.
_APART = """
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

typed = test_stack.typed
stack = test_stack.stack


@pytest.fixture
def wheel_environment(stack: Typed, tmp_path: Path) -> dict[str, str]:
    """A new virtual environment with the wheel in it and what that says it needs; no source tree."""
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


def test_the_wheel_alone_is_a_plugin_of_k3d_and_the_same_program(
    wheel_environment: dict[str, str], stack: Typed, tmp_path: Path
) -> None:
    """The same, as far as Docker sees it: `up` finds the image that the source tree has built."""

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
    where = run(
        program.removeprefix("#!"), "-c", "import autoregistry; print(autoregistry.__file__)"
    )

    assert where.startswith(str(tmp_path / "venv"))
    assert (
        run("k3d", "autoregistry", "up") == f"localhost:{stack.port} is up, nothing had to change\n"
    )
    assert json.loads(run("autoregistry", "status", "--json"))["proxy"]["backend"] == "ok"
    assert "mirrors:" in run("autoregistry", "generate", "registries")


def does_its_work(run: Callable[..., str], stack: Typed) -> None:
    """Every kind of question and deed, where 127.0.0.1 is not the proxy's: it is asked by `docker exec`.

    What the doctor finds may be ill in clusters that are none of ours.
    """
    name = f"from/{secrets.token_hex(4)}:dev"
    build(stack.engine, f"{stack.name}/{name}", stack.engine.store)

    told = json.loads(run("status", "--json").partition("\n}\n")[0] + "}")
    assert (told["proxy"]["backend"], told["name"]) == ("ok", stack.name)
    assert name in run("push", name)
    wait_for(lambda: name in run("images"), "the image in the list")
    assert name in run("why", name)
    assert "is served at" in run("logs", "--tail", "100")
    assert "an image was pushed automatically" in run("doctor")
    assert "nothing had to change" in run("up")


def test_a_container_with_only_the_socket_is_road_enough(stack: Typed) -> None:
    image = stack.inspect("autoregistry")["Config"]["Image"]
    mount = f"{stack.engine.socket}:/var/run/docker.sock"
    options = ("run", "--rm", "--network", "none", "--user", "0:0", "--volume", mount, image)

    def run(*words: str) -> str:
        done = stack.engine.cli(*options, *words, check=words != ("doctor",))
        return done.stdout + done.stderr

    does_its_work(run, stack)


def test_a_daemon_behind_tcp_in_another_network_is_road_enough(stack: Typed) -> None:
    if stack.engine.store == "classic":
        pytest.skip("the road is the same for both stores")

    def run(*words: str) -> str:
        apart = ["unshare", "--net", sys.executable, "-c", _APART, str(stack.engine.socket)]
        argv = [*apart, sys.executable, "-m", "autoregistry", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0 or words == ("doctor",), done.stderr
        return done.stdout + done.stderr

    does_its_work(run, stack)
