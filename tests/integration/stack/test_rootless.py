"""`up` in a rootless Docker, whose containers see another socket, other users and another network than ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from dev import lab
from dev.lab import Docker
from tests.integration.conftest import _or_skip
from tests.integration.helpers.rootless import rootless_daemon
from tests.integration.helpers.serving import build, wait_for
from tests.integration.stack.test_stack import Typed

pytestmark = pytest.mark.engine


@pytest.fixture
def rootless() -> Iterator[Docker]:
    with ExitStack() as stack:
        docker = _or_skip(lambda: stack.enter_context(rootless_daemon()))
        for name in ("registry:2", "python:3.13-slim"):
            lab.image(docker, name)
        yield docker


def test_a_rootless_docker_pushes_what_it_has_built(rootless: Docker) -> None:
    typed = Typed(rootless)
    typed.ok("up", "--port", str(typed.port))
    build(rootless, f"{typed.name}/shop/api:dev", "x")

    def is_pushed() -> bool:
        url = f"http://127.0.0.1:{typed.port}/v2/shop/api/manifests/dev"
        found = httpx.head(url, timeout=60, trust_env=False)
        return bool(found.headers.get("Autoregistry") == "up-to-date")

    assert "rootless" in rootless.cli("info", "--format", "{{.SecurityOptions}}").stdout
    wait_for(is_pushed, "the push before anybody asks")
    assert "✗" not in typed.ok("doctor")
    assert "nothing had to change" in typed.ok("up")
    typed.ok("down", "--volumes", "--yes")
    assert typed.names() == []
