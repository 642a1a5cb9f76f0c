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


@contextmanager
def board() -> Iterator[Board]:
    """Shows what it is told, for as long as the context lasts."""
    if not stderr.is_terminal:
        yield Board(None)
        return
    columns = [TextColumn("{task.description}", style="bold"), BarColumn(20), DownloadColumn()]
    if stderr.width >= _NARROW:
        columns += [
            TransferSpeedColumn(),
            TextColumn("{task.fields[layers]}", style="dim"),
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

    def _bar(self, image: Image) -> TaskID:
        if self._progress is None:
            return TaskID(0)
        if image not in self._tasks:
            self._tasks[image] = self._progress.add_task(str(image), total=None, layers="")
        return self._tasks[image]
