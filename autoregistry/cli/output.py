"""How things look: the consoles, errors, events and tables of all commands.

Foreign text is never markup. Colour and terminal width are decided here once (rich honours NO_COLOR and pipes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoregistry.errors import AutoregistryError
from autoregistry.events import (
    Answer,
    Event,
    HandPushSeen,
    NodeRefreshed,
    Notice,
    PullAnswered,
    PushFailed,
    PushFinished,
    PushStarted,
    WorkloadRestarted,
)

stderr = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
stdout = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

_UNBOUNDED = 1000
_STYLES = {
    Answer.PUSHED: "green",
    Answer.PUSHING: "yellow",
    Answer.PUSH_FAILED: "red",
    Answer.DOCKER_UNREACHABLE: "yellow",
    Answer.BACKEND_UNREACHABLE: "red",
}


def show_line(console: Console, text: Text) -> None:
    """In a terminal it is broken at words; whatever reads a pipe gets one line for one thing."""
    console.print(text, soft_wrap=not console.file.isatty())


def show_error(error: AutoregistryError, fallback: str) -> None:
    """Two lines: what, and what to type next; the fallback where the error does not say."""
    show_line(stderr, Text.assemble(("error: ", "bold red"), error.message))
    # Whole, so that it can be copied.
    stderr.print(Text.assemble(("hint: ", "bold"), error.hint or fallback))


def line(event: Event) -> Text | None:
    """An event as one line; None where it is not worth one."""
    match event:
        case PullAnswered(manifest, _, answer, status, sentence, _):
            if answer is Answer.OWN_PUSH:
                return None
            name = _short_digest(str(manifest))
            missing = " (and it has none)" if answer.status is None and status == 404 else ""
            return _about(name, sentence + missing, _STYLES.get(answer, ""))
        case PushStarted(image, _, because):
            return _about(image, f"{because}: pushing", "dim")
        case PushFinished(image, _, _, pushed_bytes, seconds):
            size = f"{pushed_bytes / 1e6:.1f} MB " if pushed_bytes else ""
            return _about(image, f"pushed {size}in {seconds:.1f} s", "green")
        case PushFailed(image, cause):
            return _about(image, f"could not be pushed: {cause}", "red")
        case HandPushSeen(image, client, _):
            return _about(image, f"pushed by hand ({client})", "dim")
        case NodeRefreshed(_, node, image, _, seconds, cause):
            how = f"could not pull it: {cause}" if cause else f"has it now, {seconds:.1f} s"
            return _about(image, f"{node} {how}", "red" if cause else "green")
        case WorkloadRestarted(_, workload, image):
            return _about(image, f"restarted {workload}", "green")
        case Notice(sentence):
            return Text(sentence, "yellow")
        case _:
            return None


def _about(name: object, said: str, style: str) -> Text:
    return Text.assemble((f"{name}  ", "bold"), (said, style))


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print it; for a program that reads it, one row is one line however long it is."""
    made = table(heads, rows)
    if stdout.is_terminal:
        stdout.print(made)
    else:
        Console(file=stdout.file, width=_UNBOUNDED, highlight=False).print(made)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns as wide as they need to be, without lines around them."""
    made = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for head in heads:
        made.add_column(head, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def _short_digest(name: str) -> str:
    repository, at, digest = name.partition("@sha256:")
    return f"{repository}@{digest[:12]}" if at else name
