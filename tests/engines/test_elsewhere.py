"""The commands away from the source tree and from 127.0.0.1: the wheel alone, and a container with only the socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dev import lab
from tests.docs import ROOT
from tests.engines import test_stack
from tests.engines.serving import build, wait_for
from tests.engines.test_stack import Typed

pytestmark = pytest.mark.engine

typed = test_stack.typed
stack = test_stack.stack


@pytest.fixture
def wheel_environment(stack: Typed, tmp_path: Path) -> dict[str, str]:
    """A new virtual environment with the wheel in it, and dependencies of before; no source tree."""
    if stack.engine.store == "classic":
        pytest.skip("the wheel is the same for both stores")
    venv = tmp_path / "venv"
    for argv in (
        ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        ["-m", "venv", "--without-pip", str(venv)],
    ):
        subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    pip = ["-m", "pip", "--python", str(venv), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *pip, str(wheel)], check=True, capture_output=True)
    # A .pth file in a folder named by another one is not read: the source tree of an editable install stays unknown.
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
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


def test_a_container_with_only_the_socket_is_road_enough(stack: Typed) -> None:
    """No network at all: 127.0.0.1 is not the proxy's there, so it is asked by `docker exec`."""
    image = stack.inspect("autoregistry")["Config"]["Image"]
    mount = f"{stack.engine.socket}:/var/run/docker.sock"
    options = ("run", "--rm", "--network", "none", "--user", "0:0", "--volume", mount, image)
    name = f"localhost:{stack.port}/from/afar:dev"
    build(stack.engine, name, stack.engine.store)

    def run(*words: str) -> str:
        done = stack.engine.cli(*options, *words)
        return done.stdout + done.stderr

    told = json.loads(stack.engine.cli(*options, "status", "--json").stdout)
    pushed = run("push", "from/afar:dev")
    wait_for(lambda: "from/afar:dev" in run("images"), "the image in the list")

    assert (told["proxy"]["backend"], told["name"]) == ("ok", f"localhost:{stack.port}")
    assert "from/afar:dev" in pushed
    assert "from/afar:dev" in run("why", "from/afar:dev")
    assert "is served at" in run("logs", "--tail", "50")
    assert "an image that was only built was pushed" in run("doctor")
    assert "nothing had to change" in run("up")
