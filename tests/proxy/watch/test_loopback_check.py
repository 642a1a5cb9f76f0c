"""Whether Docker's pushes would reach us is found out by having Docker ask."""

from __future__ import annotations

import pytest

from autoregistry.errors import DockerUnreachable
from autoregistry.events import Event, Notice, PullSeen
from autoregistry.names import Manifest
from autoregistry.proxy.watch import loopback_check
from autoregistry.proxy.watch.loopback_check import LoopbackCheck


def _unsaid(event: Event) -> None:
    raise AssertionError(event)


async def test_a_question_that_comes_back_says_nothing() -> None:
    said: list[Event] = []

    def ask(reference: str) -> None:
        repository, _, nonce = reference.removeprefix("localhost:5000/").partition(":")
        assert probe.recognises(PullSeen(Manifest(repository, nonce), "docker/28.5.2"))

    probe = LoopbackCheck(ask, "localhost:5000", said.append)
    await probe.run()

    assert probe.broken is None
    assert said == []


async def test_a_question_that_goes_elsewhere_is_one_named_error() -> None:
    said: list[Event] = []
    probe = LoopbackCheck(lambda _: None, "localhost:5000", said.append)
    await probe.run()

    assert probe.broken is not None
    assert probe.broken.message.startswith("Docker's localhost:5000 is not this proxy")
    assert [type(event) for event in said] == [Notice]


async def test_docker_is_asked_again_when_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback_check, "RETRY_SECONDS", 0.0)
    asked: list[str] = []
    said: list[Event] = []

    def ask(reference: str) -> None:
        asked.append(reference)
        if len(asked) < 3:
            raise DockerUnreachable("Docker does not answer")

    probe = LoopbackCheck(ask, "localhost:5000", said.append)
    await probe.run()

    assert len(asked) == 3


def test_other_pulls_are_not_taken_for_it() -> None:
    probe = LoopbackCheck(lambda _: None, "localhost:5000", _unsaid)

    assert not probe.recognises(PullSeen(Manifest(loopback_check.REPOSITORY, "dev"), "x"))
    assert not probe.recognises(Notice("x"))
