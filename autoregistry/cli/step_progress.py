"""The display of the steps of `up` and `down`: live in a terminal, else one plain line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from autoregistry.cli.output import stderr
from autoregistry.stack.steps import Report, Step, StepDone, StepProgress, StepStarted

_BAR_WIDTH = 16
_TEXT_WIDTH = 24
_LINE_WIDTH = 40
# The other instructions of a Dockerfile take no time.
_LONG_STEPS = ("RUN", "COPY")


@contextmanager
def show_steps() -> Iterator[Report]:
    """Show the reported steps as long as the context lasts."""
    if not stderr.is_terminal:
        yield _Lines().show
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(_BAR_WIDTH),
        TextColumn("{task.fields[text]}", style="dim"),
        console=stderr,
        transient=True,
    )
    with progress:
        yield _Live(progress).show


class _Lines:
    """One line when a step starts, one when it is done, and one for each long instruction of a build."""

    def __init__(self) -> None:
        self._printed: set[str] = set()

    def show(self, step: Step) -> None:
        match step:
            case StepStarted(name):
                self._print_once(f"{name} ...")
            case StepProgress(name, done, total, text) if text.startswith(_LONG_STEPS):
                self._print_once(f"{name} step {done}/{total}: {_short(text, _LINE_WIDTH)}")
            case StepDone(name, result):
                stderr.print(f"{name}  {result}")

    def _print_once(self, line: str) -> None:
        if line not in self._printed:
            self._printed.add(line)
            stderr.print(line)


class _Live:
    """Steps under way move at the bottom; finished steps stay above them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, step: Step) -> None:
        match step:
            case StepStarted(name):
                self._task(name)
            case StepProgress(name, done, total, text, is_bytes):
                amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if is_bytes else text
                self._progress.update(
                    self._task(name),
                    completed=done,
                    total=total or None,
                    text=_short(amount, _TEXT_WIDTH),
                )
            case StepDone(name, result, has_changed):
                if (task := self._tasks.pop(name, None)) is not None:
                    self._progress.remove_task(task)
                mark = ("✓ ", "green" if has_changed else "dim")
                stderr.print(Text.assemble(mark, (name, "bold"), f"  {result}"))

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, text="")
        return self._tasks[name]


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
