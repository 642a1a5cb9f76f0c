"""The log of `autoregistry serve --log-format json`, for programs."""

from __future__ import annotations

import json

import pytest

from autoregistry.cli.commands.serve import _show_json
from autoregistry.event_json import from_json
from autoregistry.events import Answer, Event, Notice, PullAnswered, PushFailed, PushProgress
from autoregistry.names import Image, Manifest

IMAGE = Image("shop/api", "dev")


@pytest.mark.parametrize(
    "event",
    [
        PushFailed(IMAGE, "no space left: " + "on device " * 50),
        PullAnswered(Manifest("a", "b"), "crane", Answer.PUSHED, 200, "[bold]it\nis :cat:", 1.5),
        Notice("Docker's events broke off"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_each_event_is_one_line_that_can_be_read_back(
    event: Event, capsys: pytest.CaptureFixture[str]
) -> None:
    _show_json(event)
    (line,) = capsys.readouterr().err.splitlines()
    assert from_json(json.loads(line)) == event
    assert json.loads(line)["at"] > 0


def test_progress_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    _show_json(PushProgress(IMAGE, 1, 2, 3, 4))
    assert capsys.readouterr().err == ""
