"""Images for several platforms, and BuildKit's attestations: what the containerd store makes of them."""

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


def test_a_single_platform_build_with_attestation_is_pushed_once(
    engine: Docker, serve: Serve, registry: Registry, context: Path
) -> None:
    image = "index/attested:dev"
    engine.cli("buildx", "build", "--quiet", "--tag", f"{serve.name}/{image}", context)

    answers = [serve.pull(image, "GET") for _ in range(3)]

    kinds = [m["platform"]["os"] for m in json.loads(answers[0].text)["manifests"]]
    assert kinds == ["linux", "unknown"]
    assert [a.headers["Autoregistry"] for a in answers] == ["pushed", "up-to-date", "up-to-date"]
    assert uploads(registry, image) == 1


def test_an_index_that_docker_has_in_part_ends_as_a_child_until_it_is_complete(
    engine: Docker, serve: Serve, registry: Registry, context: Path
) -> None:
    source, image = "index/source:dev", "index/partial:dev"
    engine.cli(
        "buildx", "build", "--quiet", "--platform", PLATFORMS, "--provenance=false",
        "--tag", f"{serve.name}/{source}", context,
    )  # fmt: skip
    full = serve.pull(source)
    engine.cli("image", "rm", f"{serve.name}/{source}")
    engine.cli("pull", f"{serve.name}/{source}")  # this machine's platform alone
    engine.cli("tag", f"{serve.name}/{source}", f"{serve.name}/{image}")

    partial = [serve.pull(image) for _ in range(3)]
    engine.cli("pull", "--platform", "linux/arm64", f"{serve.name}/{source}")
    complete = [serve.pull(image) for _ in range(2)]

    child, index = (
        partial[0].headers["Docker-Content-Digest"],
        full.headers["Docker-Content-Digest"],
    )
    assert [a.headers["Autoregistry"] for a in partial] == ["pushed", "up-to-date", "up-to-date"]
    assert child != index
    assert [a.headers["Autoregistry"] for a in complete] == ["pushed", "up-to-date"]
    assert index == complete[0].headers["Docker-Content-Digest"]
    assert uploads(registry, image) == 2
