"""The proxy forgets nothing that it has learned: events, manual pushes, and the last known state of both sides."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from dataclasses import replace

import httpx
import pytest

from autoregistry.engine.events import ImageEvent
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Notice, PushFailed, PushFinished
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.pull.state_file import STATE_FILE
from tests.fakes.docker import MANIFEST_TYPE, FakeDocker, FakeImage, user_agent
from tests.fakes.registry import FakeRegistry, digest_of
from tests.helpers.proxy_lab import NAME, NODE_ACCEPT, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
IMAGE = Image("app", "dev")


async def _push_manually(lab: Lab, image: FakeImage, agent: str = "crane/1") -> httpx.Response:
    headers = {"Content-Type": MANIFEST_TYPE, "User-Agent": agent}
    return await lab.client.put("/v2/app/manifests/dev", content=image.manifest, headers=headers)


def _in_registry(lab: Lab, tag: str = "dev") -> str:
    return digest_of(lab.registry.manifests["app", tag][1])


async def _finished(lab: Lab, pushes: int = 1) -> None:
    await until(lambda: sum(isinstance(e, PushFinished) for e in lab.events) >= pushes)


async def _caught_up(lab: Lab) -> None:
    """Wait until the proxy has compared all of Docker's images."""
    await until(lambda: lab.docker.inspected)
    await asyncio.sleep(0.3)


# --- reported (findings 1, 4 and 5) ---------------------------------------------------------------------------


@pytest.mark.parametrize("away", ["busy", "gone"])
async def test_old_image_is_never_served_after_docker_has_reported_a_newer_one(
    idle_lab: Lab, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.pull.docker.DOCKER_CALL_SECONDS", 0.5)
    lab = idle_lab
    lab.settings = replace(lab.settings, watch=True, patience=0.5)
    async with lab.serving():
        lab.docker.build(APP, "v1", report=True)
        await _finished(lab)
        if away == "busy":
            lab.docker.inspect_seconds = 0.8
        else:
            lab.docker.error = DockerUnreachable("killed for want of memory")
        lab.docker.build(APP, "v2", report=True)
        await until(lambda: lab.proxy.core.journal.record(IMAGE).reported_at)

        answers = [await lab.pull()]
        while answers[-1].status_code == 408 and len(answers) < 10:
            answers.append(await lab.pull())

    assert answers[0].status_code == 408
    assert answers[-1].status_code == 403
    assert "Docker has reported it" in answers[-1].reason_phrase


async def test_report_survives_a_restart_of_the_proxy(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, watch=True)
    async with lab.serving():
        lab.docker.build(APP, "v1", report=True)
        await _finished(lab)
        lab.proxy.core.journal.set_reported(IMAGE, time.time())
        lab.docker.error = DockerUnreachable("killed")

    async with lab.serving():
        answer = await lab.pull()

    assert answer.status_code in (403, 408)


async def test_docker_that_answers_again_is_pushed_within_the_same_pull(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.docker.build(APP, "v1", report=True)
    await _finished(lab)
    lab.docker.error = DockerUnreachable("busy")
    built = lab.docker.build(APP, "v2", report=True)
    await until(lambda: lab.proxy.core.journal.record(IMAGE).reported_at)
    pull = asyncio.create_task(lab.pull())
    await asyncio.sleep(0.3)
    lab.docker.error = None

    answer = await pull

    assert answer.status_code == 200
    assert answer.headers["Docker-Content-Digest"] == built.digest


async def test_event_that_is_older_than_a_manual_push_does_not_undo_it(watching_lab: Lab) -> None:
    lab = watching_lab
    image = lab.docker.build(APP, "v1")
    event = ImageEvent(APP, lab.docker._identity(image), time.time_ns())
    by_hand = FakeImage("theirs")
    assert (await _push_manually(lab, by_hand)).status_code == 201
    lab.docker.events.put(event)
    lab.docker.build(f"{NAME}/app:later", "v1", report=True)
    await _finished(lab)

    assert _in_registry(lab) == by_hand.digest
    assert (await lab.pull()).headers["Autoregistry"] == "pushed-by-hand"


async def test_image_that_docker_tags_again_after_the_clock_was_set_back_is_delivered(
    watching_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manual push with a time in the future is not later than everything that Docker reports."""
    lab = watching_lab
    ours = lab.docker.build(APP, "v1", report=True)
    await _finished(lab)
    with monkeypatch.context() as clock:
        now = time.time
        clock.setattr(time, "time", lambda: now() + 3600)
        await _push_manually(lab, FakeImage("theirs"))

    lab.docker.build(APP, "v1", report=True)
    await _finished(lab, 2)

    assert _in_registry(lab) == ours.digest


@pytest.mark.parametrize("store", ["classic"])
async def test_load_by_id_while_docker_is_busy_is_delivered_later(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.docker.error = DockerUnreachable("busy")
    image = lab.docker.build(APP, "v2")
    lab.docker.events.put(ImageEvent(image.config, image.config, time.time_ns()))
    await until(lambda: lab.proxy.core.journal.reported_ids)
    lab.docker.error = None

    await _finished(lab)

    assert lab.proxy.core.journal.reported_ids == {}


# --- the three-way comparison (findings 2, 3, 6, 7 and 8) -----------------------------------------------------


async def test_nothing_is_overwritten_at_the_first_start_until_a_client_asks(
    idle_lab: Lab,
) -> None:
    """The registry has images of other clients, and the journal is empty."""
    lab = idle_lab
    lab.settings = replace(lab.settings, watch=True)
    theirs = {f"t{n}": FakeImage(f"CI {n}") for n in range(20)}
    for tag, image in theirs.items():
        lab.registry.put("app", tag, MANIFEST_TYPE, image.manifest)
        lab.docker.images[f"{NAME}/app:{tag}"] = FakeImage("old", time.time() - 7 * 86400)
    async with lab.serving():
        await until(lambda: len(set(lab.docker.inspected)) >= len(theirs))
        await asyncio.sleep(0.3)
        untouched = {tag: _in_registry(lab, tag) for tag in theirs}
        answer = await lab.pull("app:t7")

    assert untouched == {tag: image.digest for tag, image in theirs.items()}
    assert answer.headers["Autoregistry"] == "pushed"
    assert [reference for reference, _ in lab.docker.pushed] == [f"{NAME}/app:t7"]


async def test_push_that_bypasses_the_proxy_is_respected(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.docker.build(APP, "v1", report=True)
    await _finished(lab)
    theirs = FakeImage("pushed to the backend")
    lab.registry.put("app", "dev", MANIFEST_TYPE, theirs.manifest)

    respected = [await lab.pull() for _ in range(2)][-1]
    newer = lab.docker.build(APP, "v2", report=True)
    await _finished(lab, 2)

    assert respected.headers["Autoregistry"] == "pushed-by-hand"
    assert respected.headers["Docker-Content-Digest"] == theirs.digest
    assert _in_registry(lab) == newer.digest


async def test_conflict_is_reported_once_and_left_to_the_next_client(idle_lab: Lab) -> None:
    """Docker's image and the registry's have both changed while the proxy was stopped."""
    lab = idle_lab
    async with lab.serving():
        lab.docker.build(APP, "v1")
        await lab.pull()
    theirs = FakeImage("pushed to the backend")
    lab.registry.put("app", "dev", MANIFEST_TYPE, theirs.manifest)
    built = lab.docker.build(APP, "v2")
    lab.settings = replace(lab.settings, watch=True)
    lab.docker.inspected.clear()
    lab.events.clear()

    async with lab.serving():
        await _caught_up(lab)
        kept = _in_registry(lab)
        await lab.client.get("/_autoregistry/status")
        answer = await lab.pull()

    notices = [e.sentence for e in lab.events if isinstance(e, Notice) and "app:dev" in e.sentence]
    assert kept == theirs.digest
    assert answer.headers["Docker-Content-Digest"] == built.digest
    assert [notice.partition(";")[0] for notice in notices] == [
        "app:dev  Docker's image and the registry's have both changed"
    ]


@pytest.mark.parametrize("loss", ["damaged", "deleted"])
async def test_manual_push_is_kept_while_no_client_asks_though_the_journal_is_lost(
    idle_lab: Lab, loss: str
) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, watch=True)
    by_hand = FakeImage("theirs")
    async with lab.serving():
        lab.docker.build(APP, "v1", report=True)
        await _finished(lab)
        await _push_manually(lab, by_hand)
    for file in lab.settings.state.rglob(f"{STATE_FILE}*"):
        if loss == "deleted":
            file.unlink()
        else:
            file.write_bytes(b"no database" * 1000)
    lab.docker.inspected.clear()

    async with lab.serving():
        await _caught_up(lab)
        kept = _in_registry(lab)

    assert kept == by_hand.digest


@pytest.mark.parametrize("fault", ["locked", "folder deleted"])
async def test_manual_push_is_not_forgotten_because_a_write_failed_once(
    idle_lab: Lab, fault: str
) -> None:
    lab = idle_lab
    by_hand = FakeImage("theirs")
    async with lab.serving():
        lab.docker.build(APP, "v1")
        await lab.pull()
        if fault == "locked":
            (path,) = lab.settings.state.rglob(STATE_FILE)
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            await _push_manually(lab, by_hand)
            other.execute("COMMIT")
            other.close()
        else:
            shutil.rmtree(lab.settings.state)
            await _push_manually(lab, by_hand)
        await until(lambda: not lab.proxy.core.journal.file.failure)

    async with lab.serving():
        answer = await lab.pull()

    assert answer.headers["Autoregistry"] == "pushed-by-hand"


async def test_registries_with_one_state_folder_share_nothing(idle_lab: Lab) -> None:
    """Review 6: a manual push to one made the other serve its old image."""
    first, name = idle_lab, "localhost:5001"
    async with FakeRegistry() as registry:
        names = RegistryNames(name, ("127.0.0.1:5001",))
        settings = replace(first.settings, backend=registry.url, names=names)
        second = Lab(registry, FakeDocker(first.docker.store), settings)
        second.docker.build(f"{name}/app:dev", "old")
        async with first.serving(), second.serving():
            await second.client.head("/v2/app/manifests/dev", headers={"Accept": NODE_ACCEPT})
            newer = second.docker.build(f"{name}/app:dev", "v2")
            first.docker.build(APP, "v2")
            await _push_manually(first, FakeImage("theirs"))
            answer = await second.client.head(
                "/v2/app/manifests/dev", headers={"Accept": NODE_ACCEPT}
            )

    assert answer.headers["Autoregistry"] == "pushed"
    assert answer.headers["Docker-Content-Digest"] == newer.digest
    assert {path.name for path in settings.state.iterdir()} == {"localhost_5000", "localhost_5001"}


async def test_pattern_keeps_manual_pushes_and_a_full_name_replaces_them(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    by_hand = FakeImage("theirs")
    await _push_manually(lab, by_hand)

    pattern = await lab.client.post("/_autoregistry/push", json={"images": ["*"], "wait": 5})
    kept = _in_registry(lab)
    button = await lab.client.post(
        "/_autoregistry/push", json={"images": ["app:dev"], "wait": 5, "keep_manual": True}
    )
    name = await lab.client.post("/_autoregistry/push", json={"images": ["app:dev"], "wait": 5})

    assert [push["state"] for push in pattern.json()["images"]] == ["kept"]
    assert [push["state"] for push in button.json()["images"]] == ["kept"]
    assert kept == by_hand.digest
    assert [push["state"] for push in name.json()["images"]] == ["pushed"]


@pytest.mark.parametrize("agent", [user_agent("1"), user_agent("1", nonce="0" * 16)])
async def test_late_manifest_of_an_ended_push_or_an_earlier_process_is_not_accepted(
    lab: Lab, agent: str
) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    by_hand = FakeImage("theirs")
    await _push_manually(lab, by_hand)

    late = await _push_manually(lab, FakeImage("old build"), agent)

    assert late.status_code == 403
    assert _in_registry(lab) == by_hand.digest


# --- errors of libraries (finding 10) -------------------------------------------------------------------------


async def test_unexpected_error_ends_a_push_like_any_other(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.docker.crash = KeyError("progressDetail")
    lab.docker.build(APP, "v1", report=True)
    await until(lambda: any(isinstance(event, PushFailed) for event in lab.events))
    lab.docker.crash = None

    await _finished(lab)

    (failed, *_) = [event for event in lab.events if isinstance(event, PushFailed)]
    assert "internal error: KeyError" in failed.cause


@pytest.mark.parametrize("store", ["classic"])
async def test_unexpected_error_of_one_event_does_not_end_the_others(watching_lab: Lab) -> None:
    lab = watching_lab

    def fail(identity: str) -> list[str]:
        raise KeyError("RepoTags")

    lab.docker.names_of = fail  # type: ignore[method-assign]
    lab.docker.events.put(ImageEvent("sha256:" + "1" * 64, "sha256:" + "1" * 64, time.time_ns()))
    lab.docker.build(APP, "v1", report=True)

    await _finished(lab)
