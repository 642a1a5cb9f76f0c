"""The output of all commands: consoles, errors, events and tables.

Text from outside is never read as markup. Colour and width are decided here once (rich respects NO_COLOR and pipes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from autoregistry import events
from autoregistry.errors import AutoregistryError

# Control characters of C0 and C1, and those that change the direction of text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class SafeConsole(Console):
    """A console on which no text can act on the terminal: names and reasons come from clients, Docker and nodes."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            is_ours = segment.control is not None
            yield segment if is_ours else segment._replace(text=_CONTROL.sub("�", segment.text))


stderr = SafeConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
stdout = SafeConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)

_UNLIMITED_WIDTH = 1000
_STYLES = {
    events.Answer.PUSHED: "green",
    events.Answer.PUSHING: "yellow",
    events.Answer.PUSH_FAILED: "red",
    events.Answer.DOCKER_UNREACHABLE: "yellow",
    events.Answer.BACKEND_UNREACHABLE: "red",
}


def show_line(console: Console, text: Text) -> None:
    """Print a line; a terminal wraps it at words, a pipe gets exactly one line."""
    console.print(text, soft_wrap=not console.file.isatty())


def show_json(value: object) -> None:
    """Print a result for programs."""
    stdout.print(json.dumps(value, indent=2))


def show_error(error: AutoregistryError, fallback: str) -> None:
    """Print the message and the next command; the fallback is used if the error names none."""
    show_line(stderr, Text.assemble(("error: ", "bold red"), error.message))
    # Not wrapped, so that it can be copied.
    stderr.print(Text.assemble(("hint: ", "bold"), error.hint or fallback))


def event_line(event: events.Event) -> Text | None:
    """Return an event as one line, or None for events that are not shown."""
    match event:
        case events.PullAnswered(manifest, _, answer, status, sentence, _):
            if answer is events.Answer.OWN_PUSH:
                return None
            name = _short_digest(str(manifest))
            missing = " (not found)" if answer.status is None and status == 404 else ""
            return _line(name, sentence + missing, _STYLES.get(answer, ""))
        case events.PushStarted(image, _, because):
            return _line(image, f"{because}: pushing", "dim")
        case events.PushFinished(image, _, _, pushed_bytes, seconds):
            size = f"{pushed_bytes / 1e6:.1f} MB " if pushed_bytes else ""
            return _line(image, f"pushed {size}in {seconds:.1f} s", "green")
        case events.PushFailed(image, cause):
            return _line(image, f"could not be pushed: {cause}", "red")
        case events.ManualPushSeen(image, client, _):
            return _line(image, f"pushed manually ({client})", "dim")
        case events.NodeRefreshed(_, node, image, _, seconds, cause):
            result = f"could not pull it: {cause}" if cause else f"pulled it in {seconds:.1f} s"
            return _line(image, f"{node} {result}", "red" if cause else "green")
        case events.WorkloadRestarted(_, workload, image):
            return _line(image, f"restarted {workload}", "green")
        case events.Notice(sentence):
            return Text(sentence, "yellow")
        case _:
            return None


def _line(name: object, text: str, style: str) -> Text:
    return Text.assemble((f"{name}  ", "bold"), (text, style))


def show_table(table: Table) -> None:
    """Print a table. Without a terminal, each row is one line of any length."""
    if stdout.is_terminal:
        stdout.print(table)
    else:
        SafeConsole(file=stdout.file, width=_UNLIMITED_WIDTH, highlight=False).print(table)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table without borders, with columns as wide as their content."""
    columns = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for head in heads:
        columns.add_column(head, overflow="fold")
    for row in rows:
        columns.add_row(*(Text(cell) for cell in row))
    return columns


def _short_digest(name: str) -> str:
    repository, at, digest = name.partition("@sha256:")
    return f"{repository}@{digest[:12]}" if at else name
