"""Background work: no error ends it silently."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from autoregistry.errors import AutoregistryError
from autoregistry.events import Event, Notice
from autoregistry.proxy import background
from autoregistry.proxy.background import Background
from tests.helpers.waiting import until


async def test_permanent_work_is_restarted_and_its_error_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "MIN_RESTART_SECONDS", 0.001)
    events: list[Event] = []
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise KeyError("Actor")
        await asyncio.Event().wait()

    work_in_background = Background(events.append)
    work_in_background.permanently("docker-events", work)
    await until(lambda: runs == 3)

    assert events == [
        Notice("internal error in docker-events (KeyError: 'Actor'); it is restarted")
    ]
    assert work_in_background.failing == {"docker-events": "KeyError: 'Actor'"}

    await work_in_background.stop()


async def test_work_that_runs_well_again_is_not_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MIN_RESTART_SECONDS", 0.001)
    monkeypatch.setattr(background, "WELL_SECONDS", 0.01)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise KeyError("Actor")
        await asyncio.Event().wait()

    work_in_background = Background(lambda _: None)
    work_in_background.permanently("docker-events", work)
    await until(lambda: runs == 2 and not work_in_background.failing)

    await work_in_background.stop()


async def test_error_of_a_single_task_is_reported() -> None:
    events: list[Event] = []

    async def work() -> None:
        raise ValueError("bad line")

    Background(events.append).once("push app:dev", work())
    await until(lambda: events)

    assert events == [Notice("internal error in push app:dev (ValueError: bad line)")]


async def test_call_that_hangs_takes_two_threads_and_delays_no_other_name() -> None:
    wakes, started = threading.Event(), []

    def hang() -> None:
        started.append("hung")
        wakes.wait(20)

    background = Background(lambda _: None)
    for _ in range(300):
        background.once("query", background.in_thread("hung", hang))
    await until(lambda: len(started) == 2)

    assert await background.in_thread("well", lambda: "answer") == "answer"
    assert len(started) == 2
    wakes.set()
    await until(lambda: len(started) == 300)
    await background.stop()


async def test_cancelled_task_does_not_free_the_thread_that_goes_on() -> None:
    wakes = threading.Event()
    background = Background(lambda _: None)
    for _ in range(2):
        background.replace("query", background.in_thread("hung", wakes.wait, 20))
        await asyncio.sleep(0.05)
    third = background.once("third", background.in_thread("hung", lambda: None))
    await asyncio.sleep(0.1)
    was_done = third.done()
    wakes.set()
    await third
    await background.stop()

    assert not was_done


async def test_internal_error_in_a_thread_is_reported_once_until_a_call_succeeds() -> None:
    events: list[Event] = []
    background = Background(events.append)

    def fail() -> None:
        raise KeyError("repoTags")

    for function in (fail, fail, lambda: None, fail):
        with suppress(AutoregistryError):
            await background.in_thread("images of a", function)
    await background.stop()

    assert events == [Notice("internal error in images of a (KeyError: 'repoTags')")] * 2


async def test_task_that_is_replaced_is_cancelled() -> None:
    background = Background(lambda _: None)
    first = background.replace("update of a", asyncio.sleep(60))
    await asyncio.sleep(0)
    second = background.replace("update of a", asyncio.sleep(0, "updated"))

    assert await second == "updated"
    assert first.cancelled()
    await background.stop()
