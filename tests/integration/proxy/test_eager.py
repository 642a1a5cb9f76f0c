"""Automatic pushes: images are pushed when Docker reports them, and missed ones after a restart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import docker
import pytest

from dev import lab
from dev.lab import Docker, Registry
from tests.integration.helpers.serving import Serve, build, uploads, wait_for

pytestmark = pytest.mark.engine

IMAGES, REBUILDS, OLD = 5, 10, 200


@pytest.fixture(scope="module")
def eager_registry(engine: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    started = lab.start_registry(tmp_path_factory.mktemp("registry"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def eager(
    engine: Docker, eager_registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """`autoregistry serve` that watches Docker; it starts with two hundred images of our name in Docker."""
    serve = Serve(engine, eager_registry.url, tmp_path_factory.mktemp("state"))
    repository = f"{serve.name}/{engine.store}/old"
    build(engine, f"{repository}:t0", "old")
    # The API tags all of them in the time of one `docker tag`.
    with closing(docker.APIClient(base_url=engine.host)) as api:
        for number in range(1, OLD):
            api.tag(f"{repository}:t0", repository, f"t{number}")
    serve.start()
    yield serve
    serve.stop()


def _is_pushed(eager: Serve, image: str) -> bool:
    return eager.pull(image).headers["Autoregistry"] == "up-to-date"


def test_old_images_are_not_pushed_before_a_pull(
    engine: Docker, eager: Serve, eager_registry: Registry
) -> None:
    image = f"{engine.store}/new:dev"
    build(engine, f"{eager.name}/{image}", "new")
    wait_for(lambda: uploads(eager_registry, image), "the new image to be pushed")

    assert not eager_registry.requests("PUT", f"/v2/{engine.store}/old/")


def test_fifty_rebuilds_of_five_images_are_pushed_before_any_pull(
    engine: Docker, eager: Serve, eager_registry: Registry
) -> None:
    images = [f"{engine.store}/app{number}:dev" for number in range(IMAGES)]
    names = [f"{eager.name}/{image}" for image in images]
    for round_ in range(REBUILDS - 1):  # many at once
        build(engine, names[0], f"round {round_}", *names[1:])
    waits, last = [], {}
    for image, name in zip(images, names, strict=True):
        last[image] = build(engine, name, f"the last of {image}")
        built = time.monotonic()
        wait_for(partial(_is_pushed, eager, image), image)
        waits.append(time.monotonic() - built)

    responses = {image: eager.pull(image) for image in images}

    print(f"build to registry, median of {len(waits)}: {statistics.median(waits):.2f} s")
    assert {"up-to-date"} == {r.headers["Autoregistry"] for r in responses.values()}
    if engine.store == "containerd":
        assert last == {i: r.headers["Docker-Content-Digest"] for i, r in responses.items()}


def test_tagged_and_loaded_images_are_pushed_too(
    engine: Docker, eager: Serve, eager_registry: Registry, other_engine: Docker
) -> None:
    base = f"{engine.store}/base:dev"
    build(engine, f"{eager.name}/{base}", "base")
    retagged, loaded = f"{engine.store}/retagged:dev", f"{engine.store}/loaded:dev"
    engine.cli("tag", f"{eager.name}/{base}", f"{eager.name}/{retagged}")
    wait_for(lambda: uploads(eager_registry, retagged), "the new name to be pushed")
    build(other_engine, f"{eager.name}/{loaded}", "loaded")
    archive = eager.state / "image.tar"
    other_engine.cli("save", "--output", archive, f"{eager.name}/{loaded}")
    engine.cli("load", "--input", archive)

    wait_for(lambda: uploads(eager_registry, loaded), "the loaded image to be pushed")


def test_temporary_tags_of_tilt_are_not_pushed(
    engine: Docker, eager: Serve, eager_registry: Registry
) -> None:
    temporary, kept = (
        f"{engine.store}/tilt:tilt-build-1",
        f"{engine.store}/tilt:tilt-0123456789abcdef",
    )
    build(engine, f"{eager.name}/{temporary}", "tilt")
    engine.cli("tag", f"{eager.name}/{temporary}", f"{eager.name}/{kept}")

    wait_for(lambda: uploads(eager_registry, kept), "the tag that Tilt deploys to be pushed")
    assert not uploads(eager_registry, temporary)


def test_images_built_while_the_proxy_was_down_are_pushed_at_its_start(
    engine: Docker, eager: Serve, eager_registry: Registry
) -> None:
    image = f"{engine.store}/missed:dev"
    eager.kill()
    build(engine, f"{eager.name}/{image}", "missed")
    eager.start()

    wait_for(lambda: uploads(eager_registry, image), "the missed build to be pushed")
    assert not eager_registry.requests("PUT", f"/v2/{engine.store}/old/")


def test_builds_are_followed_again_after_a_restart_of_docker(
    disturbing: Docker, eager: Serve, eager_registry: Registry
) -> None:
    if not disturbing.owned:
        pytest.skip("tests do not restart your own Docker")
    image = f"{disturbing.store}/after-restart:dev"
    disturbing.restart()
    build(disturbing, f"{eager.name}/{image}", "after the restart")

    wait_for(lambda: uploads(eager_registry, image), "a build after the restart to be pushed")
