"""The commands of `autoregistry` beside one Docker daemon, and the lock on that daemon's stack."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dev.lab import Docker
from dev.lab.cache import RUN, locked
from dev.lab.registry import free_port
from tests.integration.helpers.serving import build, wait_for
from tests.integration.helpers.warm import Program


class CommandLine:
    """Runs `autoregistry` in the environment of one daemon."""

    def __init__(self, engine: Docker) -> None:
        self.engine = engine
        self.port = free_port()
        self._environment = {**os.environ, **engine.environment}

    def start(self, *arguments: str) -> Program:
        return Program(*arguments, env=self._environment)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code, stdout and stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        print(f"$ autoregistry {' '.join(arguments)}\n{out}{err}")
        return process.wait(0), out, err

    def ok(self, *arguments: str) -> str:
        """Return stdout; the exit code must be 0."""
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out

    def inspect(self, container: str) -> dict[str, Any]:
        return dict(json.loads(self.engine.cli("inspect", container).stdout)[0])

    @property
    def name(self) -> str:
        """The registry that images are tagged with."""
        return f"localhost:{self.port}"

    def containers(self) -> list[str]:
        """Return the names of the stack's containers."""
        names = self.engine.cli("ps", "--all", "--format", "{{.Names}}").stdout.split()
        return sorted(name for name in names if name.startswith("autoregistry"))


@contextmanager
def exclusive_stack(engine: Docker) -> Iterator[None]:
    """Reserve the daemon's only stack for one test; it is removed before and after."""
    if not engine.owned:
        pytest.skip("tests do not change the stack of your own Docker")
    with locked(f"stack-{engine.store}", directory=RUN):
        CommandLine(engine).ok("down", "--volumes", "--yes")
        yield
        CommandLine(engine).ok("down", "--volumes", "--yes")


def check_every_command(run: Callable[..., str], stack: CommandLine) -> None:
    """Check that every kind of command works where it must reach the proxy through `docker exec`.

    `doctor` may find problems in clusters of other tests.
    """
    name = f"from/{secrets.token_hex(4)}:dev"
    build(stack.engine, f"{stack.name}/{name}", stack.engine.store)

    status = json.loads(run("status", "--json").partition("\n}\n")[0] + "}")
    assert (status["proxy"]["backend"], status["name"]) == ("ok", stack.name)
    assert name in run("push", name)
    wait_for(lambda: name in run("images"), "the image in the list")
    assert name in run("why", name)
    assert "is served at" in run("logs", "--tail", "100")
    assert "a test image was pushed on demand" in run("doctor")
    assert "nothing had to change" in run("up")
