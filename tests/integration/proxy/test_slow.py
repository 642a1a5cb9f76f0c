"""Slow pushes: the registry behind the proxy is slowed down."""

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
from tests.integration.helpers.serving import (
    Serve,
    build,
    serving,
    uploads,
    wait_for,
    write_hosts_toml,
)
from tests.integration.helpers.throttle import Throttle, throttled

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def throttle(registry: Registry) -> Iterator[Throttle]:
    with throttled(registry.url) as relay:
        yield relay


@pytest.fixture(autouse=True)
def full_speed_afterwards(throttle: Throttle) -> Iterator[None]:
    yield
    throttle.bytes_per_second = None


@pytest.fixture(scope="module")
def slow(
    engine: Docker, throttle: Throttle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """`autoregistry serve` with a short patience, in front of a registry that can be slowed down."""
    flags = ("--no-watch", "--patience", "3")
    with serving(engine, throttle.url, tmp_path_factory.mktemp("slow"), *flags) as started:
        yield started


def _wait_for_push(serve: Serve, image: str) -> None:
    wait_for(
        lambda: f"{image}  Docker's image" in serve.log and ": pushing" in serve.log,
        f"a push of {image}",
    )


def _pull_and_hang_up(serve: Serve, image: str) -> None:
    """Send a pull, and hang up as soon as the push has started."""
    repository, _, tag = image.rpartition(":")
    request = f"GET /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {serve.name}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serve.port)) as client:
        client.sendall(request.encode())
        _wait_for_push(serve, image)


@pytest.mark.parametrize("version", ["1.6", "2.3"])
def test_one_pull_by_containerd_waits_for_a_push_longer_than_patience(
    slow: Serve, registry: Registry, throttle: Throttle, tmp_path: Path, version: str
) -> None:
    image = f"{slow.docker.store}/patience-{version}:dev"
    build(slow.docker, f"{slow.name}/{image}", version, random_bytes=2 * MEGABYTE)
    node = lab.containerd("1.6" if version == "1.6" else "2.3", write_hosts_toml(tmp_path, slow))
    throttle.bytes_per_second = MEGABYTE // 3

    code, output = node.pull(f"{slow.name}/{image}")
    node.stop()

    assert code == 0, output
    assert uploads(registry, image) == 1
    assert "still pushing" in slow.log


def test_docker_pull_waits_for_the_push(
    slow: Serve, other_engine: Docker, registry: Registry, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/waits:dev"
    build(slow.docker, f"{slow.name}/{image}", "waits", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 3

    other_engine.cli("pull", f"{slow.name}/{image}")

    assert uploads(registry, image) == 1


def test_pull_after_a_rebuild_during_a_push_gets_the_newer_image(
    slow: Serve, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/rebuilt:dev"
    reference = f"{slow.name}/{image}"
    build(slow.docker, reference, "v1", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 2
    with ThreadPoolExecutor(1) as executor:
        early = executor.submit(slow.pull, image, agent="crane")
        _wait_for_push(slow, image)
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


def test_client_that_hangs_up_does_not_cancel_the_push(
    slow: Serve, registry: Registry, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/hangs-up:dev"
    build(slow.docker, f"{slow.name}/{image}", "hangs up", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 2
    _pull_and_hang_up(slow, image)
    throttle.bytes_per_second = None

    wait_for(lambda: uploads(registry, image), "the push to end by itself")
    response = slow.pull(image)

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "up-to-date")
    assert uploads(registry, image) == 1


def test_proxy_killed_during_a_push_has_lost_nothing_at_the_next_start(
    slow: Serve, registry: Registry, throttle: Throttle
) -> None:
    image = f"{slow.docker.store}/killed:dev"
    build(slow.docker, f"{slow.name}/{image}", "killed", random_bytes=2 * MEGABYTE)
    throttle.bytes_per_second = MEGABYTE // 2
    _pull_and_hang_up(slow, image)
    slow.kill()
    throttle.bytes_per_second = None
    slow.start()

    response = slow.pull(image, agent="crane")

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")


def _import_large(docker: Docker, reference: str) -> None:
    """Import a layer of a gigabyte that cannot be compressed: gzip looks 32 KB back.

    A quarter of that for the classic store, whose own gzip is the slowest part.
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


def test_gigabyte_passes_through_in_constant_memory(
    engine: Docker, registry: Registry, tmp_path: Path
) -> None:
    """A manual `docker push`, and then a slow reader (1 MB/s)."""
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
        received = 0
        with httpx.stream("GET", f"{serve.url}{path}", trust_env=False, timeout=60) as response:
            for chunk in response.iter_raw(1 << 18):
                received += len(chunk)
                peak = max(peak, serve.resident_bytes())
                if received < 5 * MEGABYTE:
                    time.sleep(len(chunk) / MEGABYTE)
        engine.cli("image", "rm", f"{serve.name}/{image}")

        assert push.returncode == 0
        assert int(layer["size"]) == received
        assert "pushed manually" in serve.log
        assert peak < 100 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"
