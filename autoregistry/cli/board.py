"""How running pushes look: a bar for each in a terminal, a line when something happened; plain lines without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from autoregistry.cli.output import line, stderr
from autoregistry.events import Event, PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.names import Image

_NARROW = 100
_BESIDE_THE_NAME = 56


@contextmanager
def board() -> Iterator[Board]:
    """Shows what it is told, for as long as the context lasts."""
    if not stderr.is_terminal:
        yield Board(None)
        return
    is_narrow = stderr.width < _NARROW
    columns = [
        TextColumn("{task.description}", style="bold"),
        BarColumn(10 if is_narrow else 20),
        DownloadColumn(),
        TransferSpeedColumn(),
        *([] if is_narrow else [TextColumn("{task.fields[layers]}", style="dim")]),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=stderr, transient=True) as progress:
        yield Board(progress)


class Board:
    """One bar a push; everything else is a line above."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[Image, TaskID] = {}

    def show(self, event: Event) -> None:
        match event:
            case PushStarted(image):
                self._bar(image)
            case PushProgress(image, done, total, layers, of_layers) if self._progress:
                shown = f"layer {layers}/{of_layers}"
                self._progress.update(self._bar(image), completed=done, total=total, layers=shown)
                return
            case PushFinished(image) | PushFailed(image):
                if self._progress and image in self._tasks:
                    self._progress.remove_task(self._tasks.pop(image))
            case _:
                pass
        if (text := line(event)) is not None:
            stderr.print(text)

    def away(self) -> None:
        """The proxy went away: nothing is known of its pushes until it is back."""
        for task in self._tasks.values():
            if self._progress:
                self._progress.remove_task(task)
        self._tasks.clear()
        stderr.print("the proxy is away, waiting for it", style="yellow")

    def _bar(self, image: Image) -> TaskID:
        if self._progress is None:
            return TaskID(0)
        if image not in self._tasks:
            name, room = str(image), stderr.width - _BESIDE_THE_NAME
            shown = name if len(name) <= room else f"…{name[1 - room :]}"
            self._tasks[image] = self._progress.add_task(shown, total=None, layers="")
        return self._tasks[image]
