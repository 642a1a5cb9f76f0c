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
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(_BAR_WIDTH),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    disable = not stderr.is_terminal
    with Progress(*columns, console=stderr, transient=True, disable=disable) as progress:
        yield _Display(progress).show


class _Display:
    """In a terminal, steps under way move at the bottom, and finished steps stay above them.

    Else one line when a step starts, one when it is done, and one for each long instruction of a build.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._printed: set[str] = set()

    def show(self, step: Step) -> None:
        match step:
            case StepStarted(name):
                self._task(name)
                self._print_once(f"{name} ...")
            case StepProgress(name, done, total, text, is_bytes):
                amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if is_bytes else text
                short, task = _short(amount, _TEXT_WIDTH), self._task(name)
                self._progress.update(task, completed=done, total=total or None, text=short)
                if text.startswith(_LONG_STEPS):
                    self._print_once(f"{name} step {done}/{total}: {_short(text, _LINE_WIDTH)}")
            case StepDone(name, result, has_changed):
                if name in self._tasks:
                    self._progress.remove_task(self._tasks.pop(name))
                if self._progress.disable:
                    stderr.print(f"{name}  {result}")
                else:
                    mark = ("✓ ", "green" if has_changed else "dim")
                    stderr.print(Text.assemble(mark, (name, "bold"), f"  {result}"))

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, text="")
        return self._tasks[name]

    def _print_once(self, line: str) -> None:
        if self._progress.disable and line not in self._printed:
            self._printed.add(line)
            stderr.print(line)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
