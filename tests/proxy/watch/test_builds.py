"""Docker's events: what is built is pushed, what was missed is caught up with, old images are left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from autoregistry.errors import DockerUnreachable
from autoregistry.events import Notice, PushFinished
from tests.helpers.proxy_lab import NAME, Lab

APP = f"{NAME}/app:dev"


async def _until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - no event tells when
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what}: not within 20 s") from None


def _finished(lab: Lab) -> list[str]:
    return [str(event.image) for event in lab.events if isinstance(event, PushFinished)]


async def test_a_build_is_pushed_before_anybody_asks(watching_lab: Lab) -> None:
    watching_lab.docker.build(APP, "v1", report=True)
    await _until(lambda: _finished(watching_lab), "the push")

    assert (await watching_lab.pull()).headers["Autoregistry"] == "up-to-date"


async def test_a_skipped_tag_waits_until_it_is_asked_for(watching_lab: Lab) -> None:
    watching_lab.docker.build(f"{NAME}/app:tilt-build-1", "v1", report=True)
    watching_lab.docker.build(APP, "v1", report=True)
    await _until(lambda: _finished(watching_lab), "the push")

    assert _finished(watching_lab) == ["app:dev"]
    assert (await watching_lab.pull("app:tilt-build-1")).headers["Autoregistry"] == "pushed"


async def test_what_is_built_under_another_spelling_and_hidden_is_named(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.docker.build(APP, "v1", report=True)
    lab.docker.build("127.0.0.1:5000/app:dev", "v2", report=True)

    def told() -> list[str]:
        return [e.sentence for e in lab.events if isinstance(e, Notice) and "app:dev" in e.sentence]

    await _until(told, "the notice")
    assert told()[0].startswith("127.0.0.1:5000/app:dev is not delivered")
    assert f"docker rmi {APP}" in told()[0]


async def test_old_images_are_left_alone_and_a_push_cut_off_is_taken_up(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.docker.build(f"{NAME}/old:dev", "old")
    lab.docker.build(f"{NAME}/cut:dev", "cut off")
    lab.docker.push_error = "the proxy was killed"
    async with lab.serving():
        await lab.pull("cut:dev")
    lab.docker.push_error = ""
    lab.docker.pushed.clear()
    lab.settings = replace(lab.settings, watch=True)

    async with lab.serving():
        lab.docker.build(APP, "v1", report=True)
        await _until(lambda: len(_finished(lab)) == 2, "both pushes")

    assert sorted(_finished(lab)) == ["app:dev", "cut:dev"]


async def test_the_stream_comes_back_and_catches_up(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.docker.build(f"{NAME}/first:dev", "v1", report=True)
    await _until(lambda: _finished(lab), "the first push")
    lab.docker.build(APP, "built while nobody listened")
    lab.docker.events.put(DockerUnreachable("the daemon restarts"))

    await _until(lambda: "app:dev" in _finished(lab), "the missed build")

    assert any(isinstance(e, Notice) and "ended" in e.sentence for e in lab.events)


async def test_a_push_that_failed_is_tried_again_though_nobody_asks(watching_lab: Lab) -> None:
    watching_lab.docker.push_error = "no space left on device"
    watching_lab.docker.build(APP, "v1", report=True)
    await _until(lambda: watching_lab.docker.pushed, "the first push")
    watching_lab.docker.push_error = ""

    await _until(lambda: _finished(watching_lab), "the push that is tried again")


async def test_a_build_while_docker_is_too_busy_to_be_asked_is_pushed_later(
    watching_lab: Lab,
) -> None:
    lab = watching_lab
    lab.docker.build(f"{NAME}/first:dev", "v1", report=True)
    await _until(lambda: _finished(lab), "the first push")
    lab.docker.error = DockerUnreachable("it did not answer in time")
    lab.docker.build(APP, "v1", report=True)
    await _until(lambda: lab.docker.errors, "Docker to be asked")
    lab.docker.error = None

    await _until(lambda: "app:dev" in _finished(lab), "the push")


async def test_a_build_while_the_registry_is_away_is_pushed_later(watching_lab: Lab) -> None:
    port = int(watching_lab.registry.url.rpartition(":")[2])
    await watching_lab.registry.stop()
    watching_lab.docker.build(APP, "v1", report=True)
    await _until(lambda: watching_lab.docker.inspected, "the build to be seen")
    await watching_lab.registry.start(port)

    await _until(lambda: _finished(watching_lab), "the push")


@pytest.mark.parametrize("is_reported", [False, True], ids=["not reported", "waiting already"])
async def test_push_that_a_client_waits_for_goes_before_those_that_no_client_asked_for(
    watching_lab: Lab, *, is_reported: bool
) -> None:
    """Review 12: a pull waited behind forty builds that had just been reported."""
    lab = watching_lab
    lab.docker.may_push.clear()
    for number in range(20):
        lab.docker.build(f"{NAME}/eager:{number}", "v1", report=True)
    await _until(lambda: len(lab.docker.pushed) == 3, "the first pushes")
    lab.docker.build(f"{NAME}/mine:dev", "v1", report=is_reported)
    pull = asyncio.create_task(lab.pull("mine:dev"))

    await _until(lambda: len(lab.docker.pushed) == 4, "the push that the client waits for")
    lab.docker.may_push.set()

    assert lab.docker.pushed[3][0] == f"{NAME}/mine:dev"
    assert (await pull).headers["Autoregistry"] == "pushed"
