"""An image that is rebuilt again and again while its first build is pushed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from autoregistry.names import MANIFEST_TYPES
from dev.lab import Docker, Registry
from tests.integration.helpers.serving import Serve, build, serving, wait_for
from tests.integration.helpers.throttle import throttled

pytestmark = pytest.mark.engine

REBUILDS = 10
MEGABYTE = 1 << 20
BYTES_PER_SECOND = 100_000


def _pull(serve: Serve, image: str, method: str, agent: str) -> httpx.Response:
    """Request a manifest, and again after a 408, as nodes do."""
    while (response := serve.pull(image, method, agent=agent)).status_code == 408:
        pass
    return response


def _build_number(registry: Registry, repository: str, digest: str, builds: list[str]) -> int:
    """Return the number of the build that has this digest in the registry."""
    if digest in builds:
        return builds.index(digest)
    url = f"{registry.url}/v2/{repository}/manifests/{digest}"
    manifest = httpx.get(url, headers={"Accept": ", ".join(MANIFEST_TYPES)}, trust_env=False).json()
    return builds.index(manifest["config"]["digest"])  # Docker's Id on the classic store


def test_each_client_gets_the_build_that_was_the_newest_when_it_asked_or_a_later_one(
    engine: Docker, registry: Registry, tmp_path: Path
) -> None:
    repository = f"{engine.store}/often"
    image = f"{repository}:dev"
    with (
        throttled(registry.url) as throttle,
        serving(engine, throttle.url, tmp_path, "--no-refresh", "--patience", "3") as serve,
        ThreadPoolExecutor(4 * REBUILDS) as executor,
    ):
        throttle.bytes_per_second = BYTES_PER_SECOND
        reference = f"{serve.name}/{image}"
        builds = [build(engine, reference, "build 0", random_bytes=8 * MEGABYTE)]
        asked = [(0, executor.submit(_pull, serve, image, "GET", "crane"))]
        wait_for(lambda: f"{image}  Docker's image" in serve.log, "the first push")
        for number in range(1, REBUILDS + 1):
            builds.append(build(engine, reference, f"build {number}", random_bytes=MEGABYTE // 4))
            for method, agent in (("HEAD", "containerd/2.3.7"), ("GET", "crane")):
                asked.append((number, executor.submit(_pull, serve, image, method, agent)))
        is_first_pushed = serve.log.count("pushed 8.") > 0
        throttle.bytes_per_second = None
        responses = [(newest, pull.result()) for newest, pull in asked]
        last = serve.pull(image)

        received = [
            (
                newest,
                _build_number(registry, repository, r.headers["Docker-Content-Digest"], builds),
            )
            for newest, r in responses
            if r.status_code == 200
        ]
        log = serve.log

    assert not is_first_pushed
    assert {response.status_code for _, response in responses} == {200}
    assert all(number >= newest for newest, number in received), received
    assert last.headers["Autoregistry"] == "up-to-date"
    assert f"{image}  could not be pushed" not in log
