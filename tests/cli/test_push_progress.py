"""The display of `watch` and `push`: a bar for each push, and no repeated lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from autoregistry.cli import push_progress
from autoregistry.cli.output import stderr
from autoregistry.cli.push_progress import EventDisplay, columns
from autoregistry.events import (
    Answer,
    NodeRefreshed,
    NodeRefreshing,
    PullAnswered,
    PushFinished,
    PushProgress,
    PushStarted,
)
from autoregistry.names import Digest, Image, Manifest

IMAGE = Image("a-team/some-service-with-a-name/api", "feature-0123")
HALF = PushProgress(IMAGE, 256_000_000, 512_000_000, 2, 5, 12.0)
PULLED = PullAnswered(Manifest("a", "dev"), "containerd", Answer.UP_TO_DATE, 200, "there", 0.1)
BY_DIGEST = PullAnswered(
    Manifest("a", Digest("sha256:" + "0" * 64)), "containerd", Answer.UP_TO_DATE, 200, "same", 0.1
)


def _draw(monkeypatch: pytest.MonkeyPatch, width: int, *events: object) -> str:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=width, no_color=True)
    monkeypatch.setattr(push_progress, "stderr", console)
    progress = Progress(*columns(width), console=console)
    display = EventDisplay(progress)
    for event in events:
        display.show(event)  # type: ignore[arg-type]
    drawn.truncate(0)
    drawn.seek(0)
    console.print(progress.get_renderable())
    return Console(file=io.StringIO()).render_str(drawn.getvalue()).plain.strip()


@pytest.mark.parametrize("width", [80, 200])
def test_a_bar_shows_the_progress_of_a_push_in_one_line(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    drawn = _draw(monkeypatch, width, PushStarted(IMAGE, "sha256:1", "it differs"), HALF)

    assert "256 of 512 MB" in drawn
    assert "2/5 layers" in drawn
    assert len(drawn.splitlines()) == 1
    assert ("…" in drawn) == (width == 80)
    assert "feature-0123" in drawn


def test_a_display_opened_later_shows_the_duration_of_the_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "0:00:12" in _draw(monkeypatch, 80, HALF)


def test_a_bar_is_removed_when_its_push_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = PushFinished(IMAGE, "sha256:1", "sha256:2", 512_000_000, 20.0)

    assert _draw(monkeypatch, 80, HALF, ended) == ""


def test_a_node_has_a_bar_until_it_has_pulled_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = NodeRefreshing("dev", "k3d-dev-agent-0", Image("app", "dev"))
    ended = NodeRefreshed("dev", "k3d-dev-agent-0", Image("app", "dev"), "sha256:1", 2.0)

    drawn = _draw(monkeypatch, 80, started, HALF)

    assert "k3d-dev-agent-0" in drawn
    assert "pulls it" in drawn
    assert len(drawn.splitlines()) == 2
    assert _draw(monkeypatch, 80, started, ended) == ""


def test_the_same_request_of_three_nodes_is_one_line() -> None:
    display = EventDisplay(None)

    with stderr.capture() as output:
        for event in (PULLED, BY_DIGEST, PULLED, BY_DIGEST, PULLED):
            display.show(event)

    assert output.get() == "a:dev  there\n"


def test_a_closed_display_shows_nothing() -> None:
    display = EventDisplay(None)
    display.close()

    with stderr.capture() as output:
        display.show(PULLED)

    assert output.get() == ""
