"""The first start in front of a registry that already has images of other clients."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import docker
import pytest

from dev import lab
from dev.lab import Docker, Registry
from tests.integration.helpers.serving import Serve, build, wait_for

pytestmark = pytest.mark.engine

TAGS = [f"t{number}" for number in range(500)]
IMAGES = 5


def _tags(registry: Registry, repository: str) -> Path:
    """Return the folder in which a registry keeps the tags of a repository."""
    return registry.directory / f"data/docker/registry/v2/repositories/{repository}/_manifests/tags"


def _push_other_images(registry: Registry, repository: str, folder: Path) -> None:
    """Push a few images past the proxy, and give each of them a hundred tags."""
    crane, address = str(lab.tool("crane")), registry.url.removeprefix("http://")
    tags = _tags(registry, repository)
    for number, first in enumerate(TAGS[:IMAGES]):
        layer = folder / f"{number}.tar"
        with tarfile.open(layer, "w") as tar:
            entry = tarfile.TarInfo("other")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(str(number).encode()))
        target = f"{address}/{repository}:{first}"
        append = [crane, "append", "--new_layer", str(layer), "--new_tag", target]
        subprocess.run(append, check=True, capture_output=True)
        for tag in TAGS[
            number + IMAGES :: IMAGES
        ]:  # a copied folder is what a PUT of each would create
            shutil.copytree(tags / first, tags / tag)


def _digests(registry: Registry, repository: str) -> dict[str, str]:
    tags = _tags(registry, repository)
    return {tag: (tags / tag / "current/link").read_text() for tag in TAGS}


def _are_compared(serve: Serve, registry: Registry, repository: str) -> bool:
    """Return True once all tags have been read, and the tasks that deliver images have ended."""
    path = f"/v2/{repository}/manifests/"
    requested = {request.path for request in registry.requests("HEAD", path)}
    if not requested >= {f"{path}{tag}" for tag in TAGS}:
        return False
    metrics = serve.get("/_autoregistry/metrics").text
    return float(metrics.partition("\nautoregistry_tasks ")[2].split()[0]) < len(TAGS) / 10


def test_no_tag_changes_at_the_first_start_until_a_client_asks(
    engine: Docker, tmp_path: Path
) -> None:
    registry = lab.start_registry(tmp_path / "registry")
    serve = Serve(engine, registry.url, tmp_path / "state", ("--no-refresh",))
    repository = f"{engine.store}/first"
    names = [f"{serve.name}/{repository}:{tag}" for tag in TAGS]
    for number in range(IMAGES):
        build(engine, names[number], f"of Docker {number}")
    with closing(docker.APIClient(base_url=engine.host)) as api:
        for number in range(IMAGES, len(TAGS)):
            api.tag(names[number % IMAGES], f"{serve.name}/{repository}", TAGS[number])
    _push_other_images(registry, repository, tmp_path)
    before = _digests(registry, repository)
    puts = len(registry.requests("PUT"))
    serve.start()
    try:
        wait_for(lambda: _are_compared(serve, registry, repository), "all comparisons", 120)
        uploads = len(registry.requests("PUT")) - puts
        after_start = _digests(registry, repository)
        asked = serve.pull(f"{repository}:{TAGS[7]}")
        after_pull = _digests(registry, repository)
    finally:
        serve.stop()
        registry.stop()

    assert (asked.status_code, asked.headers["Autoregistry"]) == (200, "pushed")
    assert len(set(before.values())) == IMAGES
    assert uploads == 0
    assert before == after_start
    assert [tag for tag in TAGS if before[tag] != after_pull[tag]] == [TAGS[7]]
