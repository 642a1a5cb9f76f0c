"""Pulls on real engines: both image stores, real clients; pushes are counted in the backend's log."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dev import lab
from dev.lab import Containerd, Docker, Registry
from tests.integration.helpers.serving import Serve, build, serving, uploads, wait_for

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", params=["1.6", "2.3"])
def node(request: pytest.FixtureRequest, hosts_dir: Path) -> Iterator[Containerd]:
    """A containerd that pulls as a node does."""
    started = lab.containerd(request.param, hosts_dir)
    yield started
    started.stop()


def _run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_built_image_is_pushed_for_a_node(
    engine: Docker, serve: Serve, registry: Registry, method: str
) -> None:
    image = f"{engine.store}/{method.lower()}:dev"
    build(engine, f"{serve.name}/{image}", method)

    responses = [serve.pull(image, method) for _ in range(3)]

    assert [r.headers["Autoregistry"] for r in responses] == ["pushed", "up-to-date", "up-to-date"]
    assert {200} == {r.status_code for r in responses}
    assert uploads(registry, image) == 1


def test_built_image_is_pushed_for_crane(engine: Docker, serve: Serve) -> None:
    image = f"{serve.name}/{engine.store}/crane:dev"
    build(engine, image, "crane")

    assert _run(lab.tool("crane"), "digest", image).startswith("sha256:")


def test_built_image_is_pushed_for_skopeo(engine: Docker, serve: Serve, tmp_path: Path) -> None:
    image = f"{serve.name}/{engine.store}/skopeo:dev"
    build(engine, image, "skopeo")

    _run(
        lab.tool("skopeo"),
        "copy",
        "--src-tls-verify=false",
        f"docker://{image}",
        f"dir:{tmp_path}/to",
    )

    assert (tmp_path / "to" / "manifest.json").exists()


def test_built_image_is_pushed_for_another_docker(
    engine: Docker, other_engine: Docker, serve: Serve
) -> None:
    image = f"{serve.name}/{engine.store}/docker:dev"
    build(engine, image, "v1")
    other_engine.cli("pull", image)
    first = other_engine.cli("image", "inspect", "--format", "{{.Id}}", image).stdout
    build(engine, image, "v2")

    other_engine.cli("pull", image)

    assert first != other_engine.cli("image", "inspect", "--format", "{{.Id}}", image).stdout


def test_containerd_pulls_the_built_image_and_then_the_rebuilt_one(
    engine: Docker, serve: Serve, registry: Registry, node: Containerd
) -> None:
    image = f"{engine.store}/node-{node.version}:dev"
    reference = f"{serve.name}/{image}"
    build(engine, reference, "v1")
    first = node.pull(reference), node.digest(reference)
    build(engine, reference, "v2")
    second = node.pull(reference), node.digest(reference)
    again = node.pull(reference), node.digest(reference)

    assert [result[0][0] for result in (first, second, again)] == [0, 0, 0], (first, second, again)
    assert first[1] != second[1]
    assert second[1] == again[1]
    assert uploads(registry, image) == 2


def test_pull_by_digest_pushes_again_what_the_registry_lost(
    engine: Docker, serve: Serve, tmp_path: Path
) -> None:
    """Docker knows the digest from its own push; a new, empty registry does not."""
    image = f"{serve.name}/{engine.store}/digest:dev"
    build(engine, image, "by digest")
    digest = serve.pull(f"{engine.store}/digest:dev").headers["Docker-Content-Digest"]
    empty = lab.start_registry(tmp_path / "empty")
    with serving(engine, empty, tmp_path / "state", "--no-watch", "--name", serve.name) as fresh:
        # Docker pushes to the port of the name, which the other proxy must release.
        serve.stop()
        fresh.stop()
        fresh.port = serve.port
        fresh.start()
        try:
            response = fresh.pull(f"{engine.store}/digest@{digest}")
        finally:
            fresh.stop()
            serve.start()
    empty.stop()

    assert (200, digest) == (response.status_code, response.headers.get("Docker-Content-Digest"))


def test_200_concurrent_requests_cause_exactly_one_push(
    engine: Docker, serve: Serve, registry: Registry
) -> None:
    image = f"{engine.store}/crowd:dev"
    build(engine, f"{serve.name}/{image}", "v1")
    serve.pull(image)
    build(engine, f"{serve.name}/{image}", "v2")

    with ThreadPoolExecutor(200) as crowd:
        responses = list(crowd.map(lambda _: serve.pull(image), range(200)))

    assert {200} == {r.status_code for r in responses}
    assert len({r.headers["Docker-Content-Digest"] for r in responses}) == 1
    assert uploads(registry, image) == 2
    assert serve.pull(image).headers["Autoregistry"] == "up-to-date"


def test_other_pulls_continue_while_twenty_tags_are_pushed(
    engine: Docker, serve: Serve, registry: Registry
) -> None:
    quiet = f"{engine.store}/quiet:dev"
    build(engine, f"{serve.name}/{quiet}", "quiet")
    serve.pull(quiet)
    images = [f"{engine.store}/many:t{number}" for number in range(20)]
    build(engine, f"{serve.name}/{images[0]}", "many")
    for image in images[1:]:
        engine.cli("tag", f"{serve.name}/{images[0]}", f"{serve.name}/{image}")

    with ThreadPoolExecutor(24) as crowd:
        asked = [crowd.submit(serve.pull, image) for image in images]
        meanwhile = serve.pull(quiet)
        responses = [future.result() for future in asked]

    assert meanwhile.headers["Autoregistry"] == "up-to-date"
    assert [(r.status_code, r.reason_phrase) for r in responses] == [(200, "OK")] * 20
    assert [uploads(registry, image) for image in images] == [1] * 20


def test_image_that_does_not_exist_is_404(serve: Serve) -> None:
    response = serve.pull("no/such:image", "GET")

    assert (response.status_code, response.headers["Autoregistry"]) == (404, "only-in-registry")
    assert "MANIFEST_UNKNOWN" in response.text


def test_each_pull_logs_its_verdict_in_one_line(engine: Docker, serve: Serve) -> None:
    image = f"{engine.store}/logged:dev"
    build(engine, f"{serve.name}/{image}", "logged")
    serve.pull(image)

    lines = wait_for(
        lambda: [line for line in serve.log.splitlines() if line.startswith(f"{image}  ")],
        "a verdict",
    )

    assert any("Docker's image is missing from the registry: pushed" in line for line in lines)
