"""The loopback check: Docker is made to query its registry, and the query must arrive here."""

from __future__ import annotations

import pytest

from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice, PullSeen
from autoregistry.names import Manifest
from autoregistry.proxy.background import Background
from autoregistry.proxy.watch import loopback_check
from autoregistry.proxy.watch.loopback_check import LoopbackCheck


def _must_not_emit(event: Event) -> None:
    raise AssertionError(event)


async def test_query_that_arrives_is_not_reported() -> None:
    emitted: list[Event] = []

    def query(reference: str) -> None:
        repository, _, nonce = reference.removeprefix("localhost:5000/").partition(":")
        assert check.recognises(PullSeen(Manifest(repository, nonce), "docker/28.5.2"))

    check = LoopbackCheck(query, "localhost:5000", emitted.append, Background(emitted.append))
    await check.run()

    assert check.broken is None
    assert emitted == []


async def test_query_that_goes_elsewhere_is_one_named_error() -> None:
    emitted: list[Event] = []
    check = LoopbackCheck(
        lambda _: None, "localhost:5000", emitted.append, Background(emitted.append)
    )
    await check.run()

    assert check.broken is not None
    assert check.broken.message.startswith("Docker's localhost:5000 is not this proxy")
    assert [type(event) for event in emitted] == [Notice]


async def test_query_is_repeated_while_docker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback_check, "LOOPBACK_RETRY_SECONDS", 0.0)
    queries: list[str] = []
    emitted: list[Event] = []

    def query(reference: str) -> None:
        queries.append(reference)
        if len(queries) < 3:
            raise DockerUnreachable("Docker does not answer")

    check = LoopbackCheck(query, "localhost:5000", emitted.append, Background(emitted.append))
    await check.run()

    assert len(queries) == 3


def test_other_pulls_are_not_taken_for_the_query() -> None:
    check = LoopbackCheck(
        lambda _: None, "localhost:5000", _must_not_emit, Background(_must_not_emit)
    )

    assert not check.recognises(PullSeen(Manifest(loopback_check.PROBE_NAME, "dev"), "x"))
    assert not check.recognises(Notice("x"))
