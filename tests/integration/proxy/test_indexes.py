"""Indexes of the containerd store: images for several platforms, and attestations of BuildKit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev.lab import Docker, Registry
from tests.integration.helpers.serving import Serve, uploads

pytestmark = pytest.mark.engine

PLATFORMS = "linux/amd64,linux/arm64"


@pytest.fixture(scope="module", autouse=True)
def containerd_store_only(engine: Docker) -> None:
    if engine.store == "classic":
        pytest.skip("the classic store has no indexes")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n")
    (tmp_path / "file").write_text(str(tmp_path))
    return tmp_path


def test_build_with_an_attestation_is_pushed_once(
    engine: Docker, serve: Serve, registry: Registry, context: Path
) -> None:
    image = "index/attested:dev"
    engine.cli("buildx", "build", "--quiet", "--tag", f"{serve.name}/{image}", context)

    responses = [serve.pull(image, "GET") for _ in range(3)]

    systems = [m["platform"]["os"] for m in json.loads(responses[0].text)["manifests"]]
    assert systems == ["linux", "unknown"]
    assert [r.headers["Autoregistry"] for r in responses] == ["pushed", "up-to-date", "up-to-date"]
    assert uploads(registry, image) == 1


def test_index_that_docker_has_in_part_is_pushed_as_a_child_until_it_is_complete(
    engine: Docker, serve: Serve, registry: Registry, context: Path
) -> None:
    source, image = "index/source:dev", "index/partial:dev"
    engine.cli(
        "buildx", "build", "--quiet", "--platform", PLATFORMS, "--provenance=false",
        "--tag", f"{serve.name}/{source}", context,
    )  # fmt: skip
    full = serve.pull(source)
    engine.cli("image", "rm", f"{serve.name}/{source}")
    engine.cli("pull", f"{serve.name}/{source}")  # only the platform of this machine
    engine.cli("tag", f"{serve.name}/{source}", f"{serve.name}/{image}")

    partial = [serve.pull(image) for _ in range(3)]
    engine.cli("pull", "--platform", "linux/arm64", f"{serve.name}/{source}")
    complete = [serve.pull(image) for _ in range(2)]

    child, index = (
        partial[0].headers["Docker-Content-Digest"],
        full.headers["Docker-Content-Digest"],
    )
    assert [r.headers["Autoregistry"] for r in partial] == ["pushed", "up-to-date", "up-to-date"]
    assert child != index
    assert [r.headers["Autoregistry"] for r in complete] == ["pushed", "up-to-date"]
    assert index == complete[0].headers["Docker-Content-Digest"]
    assert uploads(registry, image) == 2
