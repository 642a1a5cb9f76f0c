"""The commands with a running proxy, a real Docker and a real registry."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Thread

import pytest

from dev.lab import Docker, Registry
from tests.integration.helpers.serving import Serve, build, serving, uploads, wait_for
from tests.integration.helpers.throttle import throttled
from tests.integration.helpers.warm import Program

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20


def _start(serve: Serve, *arguments: str) -> Program:
    environment = {
        **os.environ,
        "DOCKER_HOST": serve.docker.host,
        "AUTOREGISTRY_NAME": serve.name,
    }
    return Program(*arguments, env=environment)


def _run(serve: Serve, *arguments: str) -> str:
    """Return the stdout of a command."""
    process = _start(serve, *arguments)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return stdout


def test_push_joins_a_running_pull(engine: Docker, registry: Registry, serve: Serve) -> None:
    image = f"{engine.store}/typed:dev"
    build(engine, f"{serve.name}/{image}", "v1", random_bytes=4 * MEGABYTE)
    assert "only-in-docker: Docker's image is missing" in _run(serve, "why", image)

    pushing = _start(serve, "push", f"{engine.store}/typed*")
    pulled = serve.pull(image)
    stdout, stderr = pushing.communicate(timeout=60)

    assert pulled.status_code == 200
    assert pushing.returncode == 0, stderr
    assert stdout.startswith(f"{image}  ")
    assert uploads(registry, image) == 1
    row = next(line.split() for line in _run(serve, "images").splitlines() if image in line)
    assert row[1] == "in-step"
    build(engine, f"{serve.name}/{image}", "v2")
    assert "the next pull waits until Docker has pushed the image" in _run(serve, "why", image)


def test_watch_prints_a_push_from_its_start_to_its_end(
    engine: Docker, registry: Registry, tmp_path: Path
) -> None:
    with (
        throttled(registry.url) as throttle,
        serving(engine, throttle.url, tmp_path, "--no-watch") as slow,
    ):
        image = f"{engine.store}/watched:dev"
        build(engine, f"{slow.name}/{image}", "v1", random_bytes=4 * MEGABYTE)
        throttle.bytes_per_second = 4 * MEGABYTE
        watching = _start(slow, "watch", "--json")
        seen: list[dict[str, object]] = []
        reading = Thread(target=lambda: seen.extend(map(json.loads, watching.stdout or ())))
        reading.start()
        try:
            wait_for(lambda: "hello" in [event["type"] for event in seen], "watch to connect")
            slow.pull(image)
            wait_for(lambda: "push-finished" in [event["type"] for event in seen], "the push")
        finally:
            watching.terminate()
            watching.communicate()
            reading.join(10)

    types = [event["type"] for event in seen if event.get("image") == image]
    assert types[0] == "push-started"
    assert types.count("push-progress") > 1
    done = [int(str(event["done_bytes"])) for event in seen if event["type"] == "push-progress"]
    assert done == sorted(done)
