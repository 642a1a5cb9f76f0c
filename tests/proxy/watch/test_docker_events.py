"""The follower of Docker's event stream and its subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from autoregistry.engine.events import ContainerEvent, ImageEvent
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.watch import docker_events
from autoregistry.proxy.watch.docker_events import (
    LAST_EVENT,
    Connected,
    Disconnected,
    DockerEvent,
    DockerEvents,
    NodeRemoved,
    NodeStarted,
)
from tests.helpers.waiting import until

NODE = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "agent"}
BUILT = ImageEvent("localhost:5000/app:dev", "sha256:1", 1_000)
STREAM = (
    BUILT,
    ContainerEvent("start", "k3d-dev-agent-0", NODE, 2_000),
    ContainerEvent("destroy", "k3d-dev-agent-0", NODE, 3_000),
    ContainerEvent("start", "postgres", {}, 4_000),
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, lambda _: None)
    yield journal
    journal.close()


async def _follow(
    journal: Journal, rounds: int, end: Exception, events: tuple[ImageEvent | ContainerEvent, ...]
) -> tuple[list[DockerEvent], list[int]]:
    """Follow a stream that ends with `end`; return what a subscriber got in so many rounds, and their starts."""
    seen: list[DockerEvent] = []
    starts: list[int] = []
    over = asyncio.Event()

    def stream(since: int) -> Iterator[ImageEvent | ContainerEvent | None]:
        starts.append(since)
        yield None
        yield from events if len(starts) == 1 else ()
        raise end

    def handle(event: DockerEvent) -> None:
        seen.append(event)
        if sum(isinstance(event, Disconnected) for event in seen) == rounds:
            over.set()

    follower = DockerEvents(stream, journal, lambda _: None)
    follower.subscribe(handle)
    running = asyncio.create_task(follower.run())
    async with asyncio.timeout(10):
        await over.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return seen, starts


async def test_subscriber_gets_typed_events(journal: Journal) -> None:
    journal.set_note(LAST_EVENT, "500")

    seen, _ = await _follow(journal, 1, DockerUnreachable("it restarts"), STREAM)

    assert seen == [
        Connected(500 / 1e9),
        BUILT,
        NodeStarted("k3d-dev-agent-0", "dev", "agent"),
        NodeRemoved("k3d-dev-agent-0"),
        Disconnected("it restarts", was_connected=True),
    ]


async def test_stream_continues_after_the_last_event(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_events, "MIN_PAUSE_SECONDS", 0.01)
    journal.set_note(LAST_EVENT, "500")

    _, starts = await _follow(journal, 2, DockerUnreachable("it restarts"), STREAM)

    assert starts == [501, 4_001]


async def test_unexpected_error_of_the_stream_does_not_end_the_follower(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_events, "MIN_PAUSE_SECONDS", 0.01)

    seen, starts = await _follow(journal, 2, KeyError("Actor"), STREAM[:1])

    assert len(starts) == 2
    assert Disconnected("unexpected KeyError: 'Actor'", was_connected=True) in seen


async def test_daemon_that_cannot_be_reached_is_tried_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_events, "MIN_PAUSE_SECONDS", 0.01)
    tries = []
    over = asyncio.Event()

    def stream(since: int) -> Iterator[ImageEvent | ContainerEvent | None]:
        tries.append(since)
        if len(tries) < 3:
            raise DockerUnreachable("no such socket")
        yield None

    follower = DockerEvents(stream, journal, lambda _: None)
    follower.subscribe(lambda event: over.set() if isinstance(event, Connected) else None)
    running = asyncio.create_task(follower.run())
    async with asyncio.timeout(10):
        await over.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert len(tries) == 3


async def test_error_of_one_subscriber_does_not_reach_the_others(journal: Journal) -> None:
    notices: list[Event] = []
    seen: list[DockerEvent] = []

    def fail(event: DockerEvent) -> None:
        raise KeyError("tag")

    def stream(since: int) -> Iterator[ImageEvent | ContainerEvent | None]:
        yield None

    follower = DockerEvents(stream, journal, notices.append)
    follower.subscribe(fail)
    follower.subscribe(seen.append)
    running = asyncio.create_task(follower.run())
    await until(lambda: len(seen) == 2)
    running.cancel()

    assert isinstance(seen[0], Connected)
    assert [isinstance(notice, Notice) for notice in notices] == [True, True]
    assert "KeyError: 'tag'" in str(notices[0])
