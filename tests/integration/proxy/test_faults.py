"""Any fault at any moment: afterwards each tag is what the rules say, and nothing is left open.

`make soak` runs two hundred moments with each image store; the suite runs one or a few of each kind.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import nullcontext, suppress
from pathlib import Path

import httpx
import pytest

from dev import lab
from dev.lab import Docker, Registry
from tests.integration.helpers.faults import small_disk
from tests.integration.helpers.serving import Serve, build, serving
from tests.integration.helpers.soak import Soak, moments, possible_faults, read_whole

pytestmark = pytest.mark.engine

# Read at import, because tests run without AUTOREGISTRY_* variables.
COUNT = int(os.environ.get("AUTOREGISTRY_SOAK_MOMENTS", "12"))
SEED = os.environ.get("AUTOREGISTRY_SOAK_SEED") or f"{random.randrange(16**6):06x}"  # noqa: S311


def test_each_tag_is_what_the_rules_say_after_a_fault_at_any_moment(
    disturbing: Docker, tmp_path: Path
) -> None:
    registry = lab.start_registry(tmp_path / "registry")
    faults = possible_faults(disturbing)
    disk, flags = tmp_path / "disk", ("--no-refresh", "--patience", "5")
    print(f"AUTOREGISTRY_SOAK_SEED={SEED} AUTOREGISTRY_SOAK_MOMENTS={COUNT}")
    with (
        small_disk(disk, "8m") if "disk full" in faults else nullcontext(),
        serving(disturbing, registry, disk / "state", *flags, logs=tmp_path) as serve,
    ):
        soak = Soak(disturbing, registry, serve, tmp_path)
        soak.warm_up()
        for moment in moments(f"{SEED} {disturbing.store}", COUNT, faults):
            print(moment, flush=True)
            soak.run_moment(moment)
        soak.check_nothing_is_open()
    registry.stop()


def test_layer_whose_link_is_being_written_is_found(serve: Serve, registry: Registry) -> None:
    """The registry itself answers 500, which makes `docker push` fail."""
    build(serve.docker, f"{serve.name}/faults/writing:dev", "writing")
    serve.pull("faults/writing:dev")
    layers = registry.directory / "data/docker/registry/v2/repositories/faults/writing/_layers"
    link = next(layers.rglob("link"))
    content = link.read_bytes()
    path = f"/v2/faults/writing/blobs/{content.decode()}"

    file = link.open("wb", buffering=0)
    direct = httpx.head(f"{registry.url}{path}", trust_env=False)
    writing = threading.Timer(0.3, file.write, (content,))
    writing.start()
    through_us = httpx.head(f"{serve.url}{path}", trust_env=False, timeout=30)
    writing.join()
    file.close()

    assert (direct.status_code, through_us.status_code) == (500, 200)


def test_next_pull_repairs_an_empty_link_in_the_registry(serve: Serve, registry: Registry) -> None:
    """A registry killed between opening and writing a link leaves an empty file, and answers 500 for it."""
    build(serve.docker, f"{serve.name}/faults/links:dev", "links")
    with httpx.Client(base_url=serve.url, trust_env=False, timeout=60) as client:
        read_whole(client, "faults/links", "dev")
        repository = registry.directory / "data/docker/registry/v2/repositories/faults/links"
        kinds = ("_layers/*/*", "_manifests/revisions/*/*", "_manifests/tags/dev/**")
        links = [link for kind in kinds for link in sorted(repository.glob(f"{kind}/link"))[:2]]
        for link in links:
            link.write_bytes(b"")
            with suppress(AssertionError):  # a lost layer is detected by the first request for it
                read_whole(client, "faults/links", "dev")

            read_whole(client, "faults/links", "dev")

    assert len(links) >= 5
    assert "the registry has lost a part of Docker's image: pushed" in serve.log


def test_empty_manifest_in_the_registry_is_reported(serve: Serve, registry: Registry) -> None:
    """The registry refuses to replace a manifest it believes to have; only another manifest helps."""
    build(serve.docker, f"{serve.name}/faults/manifest:dev", "manifest")
    digest = serve.pull("faults/manifest:dev").headers["Docker-Content-Digest"].partition(":")[2]
    blobs = registry.directory / "data/docker/registry/v2/blobs/sha256"
    (blobs / digest[:2] / digest / "data").write_bytes(b"")

    refused = serve.pull("faults/manifest:dev", agent="crane")
    build(serve.docker, f"{serve.name}/faults/manifest:dev", "another")
    after = serve.pull("faults/manifest:dev", agent="crane")

    assert refused.status_code == 403
    assert "one of its files is damaged" in refused.reason_phrase
    assert after.status_code == 200
