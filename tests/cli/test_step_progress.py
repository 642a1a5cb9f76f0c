"""The progress of `up` in a terminal: moving while a step runs, one line when it is done."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from autoregistry.cli import step_progress as steps
from autoregistry.errors import ImageUnavailable
from autoregistry.stack.steps import Step, StepDone, StepProgress, StepStarted
from tests.helpers.commands import IMAGE

BUILD, PULL = f"image {IMAGE}", "image registry:2"
HALF_PULLED = StepProgress(PULL, 5_000_000, 10_000_000, "pulling", is_bytes=True)
INSTALLS = StepProgress(BUILD, 3, 9, "RUN pip install --no-cache-dir -r requirements.txt")
# A sequence of ECMA-48, a line's end, or text.
_PIECE = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|\n|[^\x1b\r\n]+")
_SPINNER = re.compile(r"^[\u2800-\u28ff]")


class Terminal:
    """A terminal of 80 columns that knows which lines it shows."""

    def __init__(self) -> None:
        self.written = io.StringIO()
        self.console = Console(file=self.written, force_terminal=True, width=80, no_color=True)

    def lines(self) -> list[str]:
        """Return the lines from the top, with the spinner in a fixed position."""
        lines, row = [""], 0
        for piece in _PIECE.findall(self.written.getvalue()):
            match piece:
                case "\n":
                    row += 1
                    lines += [""] * (row + 1 - len(lines))
                case "\x1b[2K":
                    lines[row] = ""
                case "\x1b[1A":
                    row -= 1
                case _ if not piece.startswith("\x1b"):
                    lines[row] += piece
        return [_SPINNER.sub("⠿", line.rstrip()) for line in lines if line.strip()]

    def until(self, *expected: str) -> list[str]:
        """Wait for these lines, without their bars, and return the complete lines."""
        deadline = time.monotonic() + 10
        while expected != tuple(" ".join(line.replace("━", " ").split()) for line in self.lines()):
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)
        return self.lines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(steps, "stderr", terminal.console)
    return terminal


def test_pull_shows_a_bar_in_megabytes_and_leaves_one_line(terminal: Terminal) -> None:
    with steps.show_steps() as show:
        show(StepStarted(PULL))
        terminal.until("⠿ image registry:2")
        show(HALF_PULLED)
        (half,) = terminal.until("⠿ image registry:2 5 of 10 MB")
        show(StepDone(PULL, "pulled"))
        terminal.until("✓ image registry:2 pulled")

    assert half.count("━") == 8
    assert terminal.lines() == ["✓ image registry:2  pulled"]


def test_build_shows_a_bar_in_steps_and_the_current_instruction(terminal: Terminal) -> None:
    with steps.show_steps() as show:
        show(INSTALLS)
        (third,) = terminal.until(f"⠿ {BUILD} RUN pip install --no-ca…")
        show(StepDone(BUILD, "built"))

    assert third.count("━") == 5
    assert len(third) <= 80
    assert terminal.lines() == [f"✓ {BUILD}  built"]


def test_finished_steps_stay_above_running_ones(terminal: Terminal) -> None:
    with steps.show_steps() as show:
        show(StepDone("Docker", "28.5.2", has_changed=False))
        show(HALF_PULLED)
        show(StepStarted("autoregistry-backend"))
        terminal.until("✓ Docker 28.5.2", "⠿ image registry:2 5 of 10 MB", "⠿ autoregistry-backend")
        show(StepDone("network autoregistry", "created"))
        show(StepDone(PULL, "pulled"))
        terminal.until(
            "✓ Docker 28.5.2",
            "✓ network autoregistry created",
            "✓ image registry:2 pulled",
            "⠿ autoregistry-backend",
        )


def test_failed_step_leaves_no_bar(terminal: Terminal) -> None:
    def fail(*begun: Step) -> None:
        with steps.show_steps() as show:
            for step in begun:
                show(step)
            terminal.until("✓ Docker 28.5.2", "⠿ image registry:2 5 of 10 MB")
            raise ImageUnavailable("registry:2 cannot be pulled")

    with pytest.raises(ImageUnavailable):
        fail(StepDone("Docker", "28.5.2"), HALF_PULLED)

    assert terminal.lines() == ["✓ Docker  28.5.2"]
