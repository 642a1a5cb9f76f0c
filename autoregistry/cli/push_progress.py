"""How running pushes look: a bar for each in a terminal, a line when something happened; plain lines without one.

A line says something once: three nodes that pull an image ask the same question, and each asks a second time, by
the digest it was told. The log has all of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from autoregistry.cli.output import line, show_line, stderr
from autoregistry.events import (
    Answer,
    Event,
    NodeRefreshed,
    NodeRefreshing,
    PullAnswered,
    PushFailed,
    PushFinished,
    PushProgress,
    PushStarted,
)
from autoregistry.names import Digest

_NARROW = 100
_BESIDE_THE_NAME = 58
_SAME_SECONDS = 5.0


class _Size(ProgressColumn):
    """How many of how many megabytes; nothing as long as Docker has not said."""

    def render(self, task: Task) -> Text:
        if not task.total:
            return Text("")
        return Text(f"{task.completed / 1e6:.0f} of {task.total / 1e6:.0f} MB", "green")


class _Speed(ProgressColumn):
    """Of the last seconds, not of the whole."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed / 1e6:.1f} MB/s" if task.speed else "", "cyan")


def columns(width: int) -> list[ProgressColumn]:
    """Of a bar, in a terminal of this width."""
    return [
        TextColumn("{task.description}", style="bold"),
        BarColumn(10 if width < _NARROW else 30),
        _Size(),
        _Speed(),
        TextColumn("{task.fields[words]}", style="dim"),
        TimeElapsedColumn(),
    ]


@contextmanager
def board() -> Iterator[Board]:
    """Shows what it is told, for as long as the context lasts."""
    if not stderr.is_terminal:
        yield Board(None)
        return
    with Progress(*columns(stderr.width), console=stderr, transient=True) as progress:
        shown = Board(progress)
        try:
            yield shown
        finally:
            shown.close()


class Board:
    """One bar a push, and one a node that follows; everything else is a line above. Told from any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Say nothing any more: what is told now would stand beside the answer."""
        with self._lock:
            self._is_closed = True

    def show(self, event: Event, *, with_lines: bool = True) -> None:
        """Take an event."""
        with self._lock:
            if self._is_closed:
                return
            match event:
                case PushStarted(image):
                    self._bar(str(image), str(image), "Docker begins")
                case PushProgress():
                    self._advance(event)
                case PushFinished(image) | PushFailed(image):
                    self._end(str(image))
                case NodeRefreshing(_, node, image):
                    what = "it" if stderr.width < _NARROW else image
                    self._bar(f"{image} {node}", node, f"pulls {what}")
                case NodeRefreshed(_, node, image):
                    self._end(f"{image} {node}")
                case _:
                    pass
            if with_lines and not self._is_known(event) and (text := line(event)) is not None:
                show_line(stderr, text)

    def away(self) -> None:
        """The proxy went away: nothing is known of its pushes until it is back."""
        for task in self._tasks.values():
            if self._progress:
                self._progress.remove_task(task)
        self._tasks.clear()
        stderr.print("the proxy is away, waiting for it", style="yellow")

    def _is_known(self, event: Event) -> bool:
        """Whether the same was said a moment ago."""
        if not isinstance(event, PullAnswered):
            return False
        is_by_digest = isinstance(event.manifest.reference, Digest)
        if is_by_digest and event.answer is Answer.UP_TO_DATE:
            return True
        now, what = time.monotonic(), f"{event.manifest} {event.sentence}"
        self._said = {said: at for said, at in self._said.items() if now - at < _SAME_SECONDS}
        is_known = what in self._said
        self._said.setdefault(what, now)
        return is_known

    def _advance(self, event: PushProgress) -> None:
        if self._progress is None:
            return
        task = self._bar(str(event.image), str(event.image), "", event.seconds)
        words = f"{event.done_layers}/{event.total_layers} layers"
        self._progress.update(
            task, completed=event.done_bytes, total=event.total_bytes, words=words
        )

    def _bar(self, what: str, name: str, words: str, seconds: float = 0.0) -> TaskID:
        if self._progress is None:
            return TaskID(0)
        if what not in self._tasks:
            shown = _end_of(name, stderr.width - _BESIDE_THE_NAME)
            self._tasks[what] = self._progress.add_task(shown, total=None, words=words)
            self._progress.tasks[-1].start_time = self._progress.get_time() - seconds
        return self._tasks[what]

    def _end(self, what: str) -> None:
        if self._progress and what in self._tasks:
            self._progress.remove_task(self._tasks.pop(what))


def _end_of(name: str, room: int) -> str:
    """The part of a name that tells it from others, where there is no room for all of it."""
    return name if len(name) <= room else f"…{name[1 - room :]}"
