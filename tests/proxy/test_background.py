"""Background work: no error ends it silently."""

from __future__ import annotations

import asyncio

import pytest

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
