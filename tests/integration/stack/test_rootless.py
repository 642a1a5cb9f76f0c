"""`up` in a rootless Docker, where containers have another socket, other users and another network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from dev import lab
from dev.lab import Docker
from tests.integration.helpers.availability import or_skip
from tests.integration.helpers.command_line import CommandLine
from tests.integration.helpers.rootless import rootless_daemon
from tests.integration.helpers.serving import build, wait_for

pytestmark = pytest.mark.engine


@pytest.fixture
def rootless() -> Iterator[Docker]:
    with ExitStack() as stack:
        docker = or_skip(lambda: stack.enter_context(rootless_daemon()))
        for name in ("registry:2", "python:3.13-slim"):
            lab.image(docker, name)
        yield docker


def test_rootless_docker_pushes_built_images(rootless: Docker) -> None:
    command_line = CommandLine(rootless)
    command_line.ok("up", "--port", str(command_line.port))
    build(rootless, f"{command_line.name}/shop/api:dev", "x")

    def is_pushed() -> bool:
        url = f"http://127.0.0.1:{command_line.port}/v2/shop/api/manifests/dev"
        response = httpx.head(url, timeout=60, trust_env=False)
        return bool(response.headers.get("Autoregistry") == "up-to-date")

    assert "rootless" in rootless.cli("info", "--format", "{{.SecurityOptions}}").stdout
    wait_for(is_pushed, "the automatic push")
    assert "✗" not in command_line.ok("doctor")
    assert "nothing had to change" in command_line.ok("up")
    command_line.ok("down", "--volumes", "--yes")
    assert command_line.containers() == []
