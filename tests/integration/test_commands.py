"""What people type, against a running proxy, a real Docker and a real registry."""

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


def _start(serve: Serve, *words: str) -> Program:
    environment = {
        **os.environ,
        "DOCKER_HOST": serve.docker.host,
        "AUTOREGISTRY_NAME": serve.name,
    }
    return Program(*words, env=environment)


def _type(serve: Serve, *words: str) -> str:
    """What a command answers."""
    process = _start(serve, *words)
    said, story = process.communicate(timeout=60)
    assert process.returncode == 0, story
    return said


def test_push_joins_the_pull_and_the_stores_are_shown(
    engine: Docker, registry: Registry, serve: Serve
) -> None:
    image = f"{engine.store}/typed:dev"
    build(engine, f"{serve.name}/{image}", "v1", random_bytes=4 * MEGABYTE)
    assert "only-in-docker: Docker's image is missing" in _type(serve, "why", image)

    pushing = _start(serve, "push", f"{engine.store}/typed*")
    pulled = serve.pull(image)
    said, story = pushing.communicate(timeout=60)

    assert pulled.status_code == 200
    assert pushing.returncode == 0, story
    assert said.startswith(f"{image}  ")
    assert uploads(registry, image) == 1
    row = next(line.split() for line in _type(serve, "images").splitlines() if image in line)
    assert row[1] == "in-step"
    build(engine, f"{serve.name}/{image}", "v2")
    assert "the next pull waits until Docker has pushed the image" in _type(serve, "why", image)


def test_watch_tells_a_push_from_its_start_to_its_end(
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
            wait_for(lambda: "hello" in [said["type"] for said in seen], "watch to be there")
            slow.pull(image)
            wait_for(lambda: "push-finished" in [said["type"] for said in seen], "the push")
        finally:
            watching.terminate()
            watching.communicate()
            reading.join(10)

    told = [said["type"] for said in seen if said.get("image") == image]
    assert told[0] == "push-started"
    assert told.count("push-progress") > 1
    done = [int(str(said["done_bytes"])) for said in seen if said["type"] == "push-progress"]
    assert done == sorted(done)
