"""A slow, stalled or cut network to the registry and to Docker: bounded waits, and recovery by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import ImageEvent, follow_events
from autoregistry.errors import AutoregistryError
from dev.lab import Docker, Registry
from tests.integration.helpers.serving import NODE_ACCEPT, Serve, build, serving, wait_for
from tests.integration.helpers.throttle import Throttle, throttled

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20
# Every client has a response by then, most of them much earlier.
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
def to_registry(registry: Registry) -> Iterator[Throttle]:
    with throttled(registry.url) as relay:
        yield relay


@pytest.fixture(scope="module")
def to_docker(engine: Docker) -> Iterator[Throttle]:
    with throttled(engine.host) as relay:
        yield relay


@pytest.fixture(scope="module")
def serve(
    engine: Docker,
    to_registry: Throttle,
    to_docker: Throttle,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    """`autoregistry serve` with automatic pushes, between two relays."""
    remote = Docker(engine.store, to_docker.url, owned=False)
    state = tmp_path_factory.mktemp("network")
    with serving(remote, to_registry.url, state, "--no-refresh") as started:
        yield started


@pytest.fixture(autouse=True)
def healed(serve: Serve, to_registry: Throttle, to_docker: Throttle) -> Iterator[None]:
    yield
    to_registry.bytes_per_second = None
    to_docker.pause_seconds = 0.0
    to_registry.heal()
    to_docker.heal()
    wait_for(lambda: _is_followed(serve), "Docker's events to be followed again", 20)


def _is_followed(serve: Serve) -> bool:
    metrics = serve.get("/_autoregistry/metrics").text
    return "events_connected 1" in metrics and "pushes_running 0" in metrics


def _built(engine: Docker, serve: Serve, image: str, *, megabytes: int = 0) -> None:
    build(engine, f"{serve.name}/{image}", image, random_bytes=megabytes * MEGABYTE)


def _is_in(registry: Registry, image: str) -> bool:
    repository, _, tag = image.rpartition(":")
    path = f"{registry.url}/v2/{repository}/manifests/{tag}"
    return httpx.get(path, headers={"Accept": NODE_ACCEPT}, trust_env=False).status_code == 200


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_unreachable_registry_is_502_in_time_and_pulls_work_afterwards(
    serve: Serve,
    engine: Docker,
    registry: Registry,
    to_registry: Throttle,
    how: str,
) -> None:
    image = f"net/registry-{how}:dev"
    _built(engine, serve, image)
    wait_for(lambda: _is_in(registry, image) and _is_followed(serve), "its push, confirmed")
    getattr(to_registry, how)()
    began = time.monotonic()

    away = serve.pull(image, timeout=BOUND_SECONDS)
    took = time.monotonic() - began
    to_registry.heal()

    assert (away.status_code, away.headers["Autoregistry"]) == (502, "backend-unreachable")
    print(f"answered after {took:.1f} s")  # while it was unreachable
    assert serve.pull(image).headers["Autoregistry"] == "up-to-date"


def test_push_that_lost_the_registry_is_repeated_by_the_next_pull(
    serve: Serve, engine: Docker, registry: Registry, to_registry: Throttle
) -> None:
    to_registry.bytes_per_second = MEGABYTE
    _built(engine, serve, "net/middle:dev", megabytes=3)
    wait_for(lambda: registry.requests("POST", "/v2/net/middle/blobs/uploads"), "its upload")
    to_registry.cut()
    to_registry.bytes_per_second = None
    away = serve.pull("net/middle:dev", timeout=BOUND_SECONDS)
    to_registry.heal()

    wait_for(lambda: serve.pull("net/middle:dev").status_code == 200, "its push", 30)

    assert away.status_code in (403, 408, 502)


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_unreachable_docker_leaves_a_plain_registry_and_builds_are_pushed_afterwards(
    serve: Serve,
    engine: Docker,
    registry: Registry,
    to_docker: Throttle,
    how: str,
) -> None:
    image = f"net/docker-{how}:dev"
    _built(engine, serve, image)
    wait_for(lambda: _is_in(registry, image) and _is_followed(serve), "its push, confirmed")
    getattr(to_docker, how)()
    began = time.monotonic()

    away = serve.pull(image, timeout=BOUND_SECONDS)
    took = time.monotonic() - began
    _built(engine, serve, f"net/meanwhile-{how}:dev")
    to_docker.heal()

    assert (away.status_code, away.headers["Autoregistry"]) == (200, "docker-unreachable")
    print(f"answered after {took:.1f} s")
    wait_for(lambda: _is_in(registry, f"net/meanwhile-{how}:dev"), "the image built meanwhile", 20)


def test_slow_docker_is_waited_for_up_to_a_limit(
    serve: Serve, engine: Docker, to_docker: Throttle
) -> None:
    image = "net/slow:dev"
    to_docker.pause_seconds = 0.2
    _built(engine, serve, image)
    slow = serve.pull(image, timeout=BOUND_SECONDS)
    to_docker.pause_seconds = 3.0  # a request takes two of these; its limit is five seconds
    slower = serve.pull(image, timeout=BOUND_SECONDS)

    assert slow.headers["Autoregistry"] in ("pushed", "up-to-date")
    assert (slower.status_code, slower.headers["Autoregistry"]) == (200, "docker-unreachable")


@pytest.mark.parametrize("how", ["cut", "hang"])
def test_pull_works_after_docker_was_unreachable_during_a_push(
    serve: Serve,
    engine: Docker,
    registry: Registry,
    to_registry: Throttle,
    to_docker: Throttle,
    how: str,
) -> None:
    image = f"net/pushing-{how}:dev"
    to_registry.bytes_per_second = MEGABYTE
    _built(engine, serve, image, megabytes=3)
    upload = f"/v2/net/pushing-{how}/blobs/uploads"
    wait_for(lambda: registry.requests("POST", upload), "its upload")
    getattr(to_docker, how)()
    with suppress(httpx.ReadTimeout):
        serve.pull(image, timeout=1)
    to_registry.bytes_per_second = None
    to_docker.heal()

    wait_for(lambda: serve.pull(image).headers["Autoregistry"] in ("pushed", "up-to-date"), image)

    assert serve.pull(image).headers["Autoregistry"] == "up-to-date"


def test_silently_dead_connection_to_docker_is_replaced(serve: Serve, engine: Docker) -> None:
    """A tunnel is like that after the machine slept. No event is missed or reported twice."""
    seen: list[str] = []
    connected = threading.Event()

    def follow(host: str) -> None:
        with suppress(AutoregistryError):
            for event in follow_events(
                Daemon("test", {"DOCKER_HOST": host}), time.time_ns(), silence=4
            ):
                connected.set()
                if isinstance(event, ImageEvent) and "net/stranded" in event.reference:
                    seen.append(event.reference.rpartition(":")[2])

    with throttled(engine.host) as relay:
        threading.Thread(target=follow, args=(relay.url,), daemon=True).start()
        assert connected.wait(30)
        _built(engine, serve, "net/stranded:before")
        wait_for(lambda: seen, "the first event")
        relay.strand()
        _built(engine, serve, "net/stranded:after")
        wait_for(lambda: len(seen) > 1, "the event after the connection died")
        _built(engine, serve, "net/stranded:last")
        wait_for(lambda: "last" in seen, "the last event")

    assert seen == ["before", "after", "last"]


def test_stop_waits_for_a_running_push(
    engine: Docker,
    registry: Registry,
    to_registry: Throttle,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    state = tmp_path_factory.mktemp("ends")
    with serving(engine, to_registry.url, state, "--no-refresh") as stopped:
        to_registry.bytes_per_second = MEGABYTE
        _built(engine, stopped, "net/ends:dev", megabytes=3)
        wait_for(lambda: registry.requests("POST", "/v2/net/ends/blobs/uploads"), "its upload")
        stopped.stop()

    assert _is_in(registry, "net/ends:dev")
    assert "net/ends:dev  pushed" in stopped.log
    assert "cut off" not in stopped.log


def test_stop_waits_ten_seconds_and_reports_the_push_that_it_cut_off(
    engine: Docker,
    registry: Registry,
    to_registry: Throttle,
    serve: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    state = tmp_path_factory.mktemp("stop")
    with serving(engine, to_registry.url, state, "--no-refresh") as stopped:
        to_registry.bytes_per_second = MEGABYTE // 10
        _built(engine, stopped, "net/stop:dev", megabytes=3)
        wait_for(lambda: registry.requests("POST", "/v2/net/stop/blobs/uploads"), "its upload")
        began = time.monotonic()
        stopped.stop()
        took = time.monotonic() - began

    print(f"stopped after {took:.1f} s")
    assert "net/stop:dev  its push was cut off" in stopped.log
