"""Pushes that take their time: the registry behind is slowed down."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from dev import lab
from dev.lab import Docker, Registry
from tests.integration.conftest import mirror
from tests.integration.helpers.serving import Serve, build, serving, uploads, wait_for
from tests.integration.helpers.throttle import Throttle, throttled

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def throttle(registry: Registry) -> Iterator[Throttle]:
    with throttled(registry.url) as made:
        yield made


@pytest.fixture(autouse=True)
def full_speed_afterwards(throttle: Throttle) -> Iterator[None]:
    yield
    throttle.bytes_per_second = None


@pytest.fixture(scope="module")
def slow(
    engine: Docker, throttle: Throttle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """`autoregistry serve` with little patience, in front of a registry that may be slowed down."""
    flags = ("--no-watch", "--patience", "3")
    with serving(engine, throttle.url, tmp_path_factory.mktemp("slow"), *flags) as started:
        yield started


def _pushing(serve: Serve, image: str) -> None:
    wait_for(
        lambda: f"{image}  Docker's image" in serve.log and ": pushing" in serve.log,
        f"a push of {image}",
    )


def _ask_and_leave(serve: Serve, image: str) -> None:
    """Hang up as soon as the push has begun."""
    repository, _, tag = image.rpartition(":")
    asking = f"GET /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {serve.name}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serve.port)) as client:
        client.sendall(asking.encode())
        _pushing(serve, image)


@pytest.mark.parametrize("version", ["1.6", "2.3"])
def test_one_pull_by_containerd_outlasts_a_push_longer_than_patience(
    slow: Serve, registry: Registry, throttle: Throttle, tmp_path: Path, version: str
) -> None:
    image = f"{slow.docker.store}/patience-{version}:dev"
    build(slow.docker, f"{slow.name}/{image}", version, random_bytes=2 * MEGABYTE)
    node = lab.containerd("1.6" if version == "1.6" else "2.3", mirror(tmp_path, slow))
    throttle.bytes_per_second = MEGABYTE // 3

    code, output = node.pull(f"{slow.name}/{image}")
    node.stop()

    assert code == 0, output
    assert uploads(registry, image) == 1
    assert "still pushing" in slow.log


def test_a_docker_pull_simply_waits(
    slow: Serve, other_engine: Docker, registry: Registry, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/waits:dev"
    build(slow.docker, f"{slow.name}/{image}", "waits", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 3

    other_engine.cli("pull", f"{slow.name}/{image}")

    assert uploads(registry, image) == 1


def test_rebuilt_during_a_push_whoever_asks_afterwards_gets_the_newer(
    slow: Serve, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/rebuilt:dev"
    reference = f"{slow.name}/{image}"
    build(slow.docker, reference, "v1", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 2
    with ThreadPoolExecutor(1) as other:
        early = other.submit(slow.pull, image, agent="crane")
        _pushing(slow, image)
        newer = build(slow.docker, reference, "v2")
        throttle.bytes_per_second = None

        late = slow.pull(image, agent="crane")
        early.result()

    digest = late.headers["Docker-Content-Digest"]
    assert late.status_code == 200
    if slow.docker.store == "containerd":
        assert newer == digest
    assert digest == slow.pull(image).headers["Docker-Content-Digest"]
    assert slow.pull(image).headers["Autoregistry"] == "up-to-date"


def test_a_client_that_hangs_up_does_not_end_the_push(
    slow: Serve, registry: Registry, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/hangs-up:dev"
    build(slow.docker, f"{slow.name}/{image}", "hangs up", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 2
    _ask_and_leave(slow, image)
    throttle.bytes_per_second = None

    wait_for(lambda: uploads(registry, image), "the push to end by itself")
    answer = slow.pull(image)

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "up-to-date")
    assert uploads(registry, image) == 1


def test_killed_during_a_push_the_next_start_has_lost_nothing(
    slow: Serve, registry: Registry, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/killed:dev"
    build(slow.docker, f"{slow.name}/{image}", "killed", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 2
    _ask_and_leave(slow, image)
    slow.kill()
    throttle.bytes_per_second = None
    slow.start()

    answer = slow.pull(image, agent="crane")

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "pushed")


def _import_large(docker: Docker, reference: str) -> None:
    """A layer of a gigabyte that no compression makes smaller: gzip looks 32 KB back.

    The classic store's own gzip is the slowest part of all: a quarter of it there.
    """
    parts = 16 if docker.store == "containerd" else 4
    client = subprocess.Popen(
        ["docker", "import", "-", reference],
        env={"PATH": "/usr/bin:/bin", **docker.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert client.stdin is not None
    block = os.urandom(MEGABYTE)
    with client.stdin as archive, tarfile.open(fileobj=archive, mode="w|") as tar:
        for number in range(parts):
            entry = tarfile.TarInfo(f"part{number}")
            entry.size = 64 * MEGABYTE
            tar.addfile(entry, io.BytesIO(block * 64))
    assert client.wait() == 0


def test_a_gigabyte_streams_through_in_flat_memory(
    engine: Docker, registry: Registry, tmp_path: Path
) -> None:
    """A user's own `docker push`, and then a reader that takes its time (1 MB/s)."""
    with serving(engine, registry, tmp_path, "--no-watch") as serve:
        image = f"{engine.store}/gigabyte:dev"
        _import_large(engine, f"{serve.name}/{image}")
        push = subprocess.Popen(
            ["docker", "push", "--quiet", f"{serve.name}/{image}"],
            env={"PATH": "/usr/bin:/bin", **engine.environment},
            stdout=subprocess.DEVNULL,
        )
        peak = 0
        while push.poll() is None:
            peak = max(peak, serve.resident_bytes())
            time.sleep(0.05)
        manifest = serve.pull(image, "GET", agent="crane").json()
        if "manifests" in manifest:
            child = manifest["manifests"][0]["digest"]
            manifest = serve.pull(f"{image.removesuffix(':dev')}@{child}", "GET").json()
        layer = max(manifest["layers"], key=lambda one: int(one["size"]))
        path = f"/v2/{image.removesuffix(':dev')}/blobs/{layer['digest']}"
        got = 0
        with httpx.stream("GET", f"{serve.url}{path}", trust_env=False, timeout=60) as answer:
            for chunk in answer.iter_raw(1 << 18):
                got += len(chunk)
                peak = max(peak, serve.resident_bytes())
                if got < 5 * MEGABYTE:
                    time.sleep(len(chunk) / MEGABYTE)
        engine.cli("image", "rm", f"{serve.name}/{image}")

        assert push.returncode == 0
        assert int(layer["size"]) == got
        assert "pushed manually" in serve.log
        assert peak < 100 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"
