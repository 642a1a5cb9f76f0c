"""Failed pushes, missing parts, and manual pushes."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from dev import lab
from dev.lab import Docker, Registry
from tests.integration.helpers.faults import small_disk
from tests.integration.helpers.serving import (
    Serve,
    build,
    serving,
    uploads,
    wait_for,
    write_hosts_toml,
)

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20


def test_failed_push_is_reported_to_the_client_instead_of_the_old_image(
    engine: Docker, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    with small_disk(folder / "data", "4m"):
        registry = lab.start_registry(folder)
        with serving(engine, registry, tmp_path / "state", "--no-watch") as serve:
            image = f"{engine.store}/fails:dev"
            reference = f"{serve.name}/{image}"
            node = lab.containerd("2.3", write_hosts_toml(tmp_path, serve))
            build(engine, reference, "v1")
            old = serve.pull(image).headers["Docker-Content-Digest"]
            build(engine, reference, "v2", random_bytes=8 * MEGABYTE)

            with ThreadPoolExecutor(1) as executor:  # the classic store tries five times, for 50 s
                pulling = executor.submit(node.pull, reference)
                refused = serve.pull(image, "GET", agent="crane")
                code, output = pulling.result()
            node.stop()
            away = refused
            if engine.owned:  # a tag known to be stale stays so while Docker does not response
                engine.freeze()
                try:
                    away = serve.pull(image, agent="crane")
                finally:
                    engine.thaw()
            subprocess.run(["mount", "-o", "remount,size=64m", folder / "data"], check=True)
            wait_for(lambda: serve.pull(image).status_code == 200, "its recovery")
            repaired = serve.pull(image)
        registry.stop()

    message = f"Docker's newer {image} could not be pushed: no space left on device"
    assert (refused.status_code, refused.headers["Autoregistry"]) == (403, "push-failed")
    assert message == refused.reason_phrase
    assert json.loads(refused.text)["errors"][0]["message"] == refused.reason_phrase
    assert code != 0
    assert message in output
    assert (away.status_code, away.headers["Autoregistry"]) == (403, "push-failed")
    assert repaired.headers["Autoregistry"] == "up-to-date"
    assert old != repaired.headers["Docker-Content-Digest"]


def _crane_push(serve: Serve, image: str, content: str, folder: Path) -> str:
    """Push another image under this tag, as CI would; return its digest."""
    (folder / "other").write_text(content)
    subprocess.run(["tar", "-C", folder, "-cf", folder / "layer.tar", "other"], check=True)
    crane = lab.tool("crane")
    done = subprocess.run(
        [
            crane,
            "append",
            "--new_layer",
            folder / "layer.tar",
            "--new_tag",
            f"{serve.name}/{image}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return serve.pull(image).headers["Docker-Content-Digest"]


def test_manual_push_is_served_until_docker_changes_even_after_kill_9(
    engine: Docker, serve: Serve, registry: Registry, tmp_path: Path
) -> None:
    image = f"{engine.store}/hand:dev"
    build(engine, f"{serve.name}/{image}", "built")
    built = serve.pull(image).headers["Docker-Content-Digest"]
    pushed = _crane_push(serve, image, "other", tmp_path)
    serve.kill()
    serve.start()
    after_kill = serve.pull(image)
    build(engine, f"{serve.name}/{image}", "rebuilt")
    rebuilt = serve.pull(image)

    assert built != pushed
    assert ("pushed-by-hand", pushed) == (
        after_kill.headers["Autoregistry"],
        after_kill.headers["Docker-Content-Digest"],
    )
    assert (rebuilt.status_code, rebuilt.headers["Autoregistry"]) == (200, "pushed")
    assert uploads(registry, image) == 3


def test_frozen_or_killed_docker_leaves_a_plain_registry_until_it_is_back(
    disturbing: Docker, serve: Serve, tmp_path: Path
) -> None:
    """A frozen Docker is waited for up to a limit; a killed one is noticed at once."""
    engine = disturbing
    if not engine.owned:
        pytest.skip("tests do not freeze or kill your own Docker")
    image, stale = f"{engine.store}/away:dev", f"{engine.store}/stale:dev"
    for name in (image, stale):
        build(engine, f"{serve.name}/{name}", "v1")
        serve.pull(name)
    build(engine, f"{serve.name}/{stale}", "v2")
    try:
        engine.freeze()
        frozen = serve.pull(image, timeout=30)
        engine.thaw()
        thawed = serve.pull(image)
        engine.kill()
        killed = serve.pull(image)
        health = serve.get("/_autoregistry/health").json()
    finally:
        engine.thaw()
        engine.start()
    back = serve.pull(stale)

    assert [(r.status_code, r.headers["Autoregistry"]) for r in (frozen, thawed, killed)] == [
        (200, "docker-unreachable"),
        (200, "up-to-date"),
        (200, "docker-unreachable"),
    ]
    assert health["docker"] == "does not answer"
    assert (back.status_code, back.headers["Autoregistry"]) == (200, "pushed")


def test_unreachable_backend_is_502_with_its_address(
    engine: Docker, serve: Serve, registry: Registry
) -> None:
    image = f"{engine.store}/backend:dev"
    build(engine, f"{serve.name}/{image}", "v1")
    serve.pull(image)
    registry.kill()
    try:
        away = serve.pull(image)
        blob = serve.get("/v2/x/tags/list")
    finally:
        registry.start()
    back = serve.pull(image)

    for response in (away, blob):
        assert response.status_code == 502
        assert registry.url in response.reason_phrase
    assert (back.status_code, back.headers["Autoregistry"]) == (200, "up-to-date")


def test_users_own_docker_push_passes_and_counts_as_manual(
    engine: Docker, serve: Serve, registry: Registry
) -> None:
    image = f"{engine.store}/own-push:dev"
    build(engine, f"{serve.name}/{image}", "v1")

    engine.cli("push", f"{serve.name}/{image}")

    assert f"{image}  pushed manually (docker/" in serve.log
    assert serve.pull(image).headers["Autoregistry"] == "up-to-date"
    assert uploads(registry, image) == 1


def test_built_and_rebuilt_images_are_pushed_before_any_pull(
    engine: Docker, tmp_path: Path
) -> None:
    registry = lab.start_registry(tmp_path / "registry")
    with serving(engine, registry, tmp_path / "state") as serve:
        image = f"{engine.store}/eager:dev"
        build(engine, f"{serve.name}/{image}", "v1")
        wait_for(lambda: uploads(registry, image) == 1, "the automatic push")
        build(engine, f"{serve.name}/{image}", "v2")
        wait_for(lambda: uploads(registry, image) == 2, "the push of the rebuild")
        wait_for(lambda: serve.log.count(f"{image}  pushed") == 2, "both to end")

        response: httpx.Response = serve.pull(image)

        assert response.headers["Autoregistry"] == "up-to-date"
    registry.stop()
