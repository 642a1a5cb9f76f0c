"""The style and the wrapping of lines in a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from autoregistry.cli import output
from autoregistry.cli.output import event_line
from autoregistry.errors import ClusterRefused
from autoregistry.events import ManualPushSeen
from autoregistry.names import Image


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_the_name_of_a_line_is_bold() -> None:
    text = event_line(ManualPushSeen(Image("shop/api", "dev"), "crane", "sha256:aa"))

    assert text is not None
    styles = {text.plain[span.start : span.end].strip(): span.style for span in text.spans}
    assert (text.style, styles["shop/api:dev"]) == ("", "bold")
    assert styles["pushed manually (crane)"] == "dim"


def test_a_terminal_of_80_columns_wraps_the_message_at_words_and_not_the_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    console = Console(file=terminal, force_terminal=True, width=80, no_color=True, soft_wrap=True)
    monkeypatch.setattr(output, "stderr", console)
    message = "k3d-dev-server-0 pulls localhost:5000 from http://elsewhere:5000, not from us; " * 3

    output.show_error(ClusterRefused(message.strip(), f"autoregistry cluster {'attach ' * 20}"), "")

    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()
    *sentences, hint = lines
    assert max(map(len, sentences)) <= 80
    assert " ".join(line.strip() for line in sentences) == f"error: {message.strip()}"
    assert hint == f"hint: autoregistry cluster {'attach ' * 20}"


@pytest.mark.parametrize(
    "control", ["\x1b[2J", "\x9b2J", "\x07", "\x08", "\u202e", "\u2066", "\x7f", "\u2028"]
)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_text_from_outside_does_not_act_on_the_terminal(control: str, is_terminal: bool) -> None:
    """A client's name, a node's error or a reason of Docker reached the terminal as it came (review 20)."""
    terminal = Terminal()
    console = output.SafeConsole(file=terminal, force_terminal=is_terminal, no_color=True)
    line = event_line(ManualPushSeen(Image("app", "dev"), f"crane{control}", "sha256:aa"))

    console.print(line)
    console.print(f"text {control}")
    console.print(output.table(["IMAGE"], [[f"cell {control}"]]))

    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert control[0] not in shown
    assert [word in shown for word in ("crane", "text", "cell")] == [True] * 3
