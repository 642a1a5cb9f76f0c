"""The display of events: a bar for each running push in a terminal, and a line for everything else.

Repeated lines are left out: three nodes that pull an image send the same request, and each sends a second one by
digest. The log has all of them.
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

from autoregistry import events
from autoregistry.cli.output import event_line, show_line, stderr
from autoregistry.names import Digest

_NARROW_TERMINAL = 100
_BAR_AND_SIZES = 58
"""Columns of a bar without the name of its image."""
_REPEAT_SECONDS = 5.0


class _Speed(ProgressColumn):
    """The speed of the last seconds."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed / 1e6:.1f} MB/s" if task.speed else "", "cyan")


def columns(width: int) -> list[ProgressColumn]:
    """Return the columns of a bar in a terminal of this width."""
    return [
        TextColumn("{task.description}", style="bold"),
        BarColumn(10 if width < _NARROW_TERMINAL else 30),
        TextColumn("{task.fields[size]}", style="green"),
        _Speed(),
        TextColumn("{task.fields[words]}", style="dim"),
        TimeElapsedColumn(),
    ]


@contextmanager
def event_display() -> Iterator[EventDisplay]:
    """Return a display on stderr that is closed at the end of the context."""
    disable = not stderr.is_terminal
    with Progress(
        *columns(stderr.width), console=stderr, transient=True, disable=disable
    ) as progress:
        display = EventDisplay(progress)
        try:
            yield display
        finally:
            display.close()


class EventDisplay:
    """Shows one bar for each push and each node that pulls, and lines above the bars. Used from any thread."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or Progress(disable=True)
        self._tasks: dict[str, TaskID] = {}
        self._shown_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Show no more events, so that they do not mix with the results."""
        with self._lock:
            self._is_closed = True

    def show(self, event: events.Event, *, with_lines: bool = True) -> None:
        """Show an event."""
        with self._lock:
            if self._is_closed:
                return
            match event:
                case events.PushStarted(image):
                    self._bar(str(image), str(image), "starting")
                case events.PushProgress(image, done, total, layers, all_layers, seconds):
                    self._progress.update(
                        self._bar(str(image), str(image), "", seconds),
                        completed=done,
                        total=total,
                        size=f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else "",
                        words=f"{layers}/{all_layers} layers",
                    )
                case events.PushFinished(image) | events.PushFailed(image):
                    self._end(str(image))
                case events.NodeRefreshing(_, node, image):
                    what = "it" if stderr.width < _NARROW_TERMINAL else image
                    self._bar(f"{image} {node}", node, f"pulls {what}")
                case events.NodeRefreshed(_, node, image):
                    self._end(f"{image} {node}")
            text = event_line(event)
            if with_lines and text is not None and not self._is_repeated(event):
                show_line(stderr, text)

    def proxy_lost(self) -> None:
        """Remove all bars, because the proxy does not answer."""
        for key in [*self._tasks]:
            self._end(key)
        stderr.print("the proxy does not answer; waiting for it to return", style="yellow")

    def _is_repeated(self, event: events.Event) -> bool:
        """Return True if the same line was shown a moment ago."""
        if not isinstance(event, events.PullAnswered):
            return False
        is_by_digest = isinstance(event.manifest.reference, Digest)
        if is_by_digest and event.answer is events.Answer.UP_TO_DATE:
            return True
        now, line = time.monotonic(), f"{event.manifest} {event.sentence}"
        recent = {text: at for text, at in self._shown_at.items() if now - at < _REPEAT_SECONDS}
        self._shown_at = {line: now, **recent}
        return line in recent

    def _bar(self, key: str, name: str, words: str, seconds: float = 0.0) -> TaskID:
        if key not in self._tasks:
            short = _shorten(name, stderr.width - _BAR_AND_SIZES)
            self._tasks[key] = self._progress.add_task(short, total=None, size="", words=words)
            self._progress.tasks[-1].start_time = self._progress.get_time() - seconds
        return self._tasks[key]

    def _end(self, key: str) -> None:
        if key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))


def _shorten(name: str, width: int) -> str:
    """Return the end of a name that is too long: names differ there."""
    return name if len(name) <= width else f"…{name[1 - width :]}"
