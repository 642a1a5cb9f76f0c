"""How lines look in a terminal: a name stands out, what is said of it does not."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from autoregistry.cli import output
from autoregistry.cli.output import line
from autoregistry.errors import ClusterRefused
from autoregistry.events import HandPushSeen
from autoregistry.names import Image


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_the_name_of_a_line_is_bold() -> None:
    shown = line(HandPushSeen(Image("shop/api", "dev"), "crane", "sha256:aa"))

    assert shown is not None
    styles = {shown.plain[span.start : span.end].strip(): span.style for span in shown.spans}
    assert (shown.style, styles["shop/api:dev"]) == ("", "bold")
    assert styles["pushed by hand (crane)"] == "dim"


def test_a_terminal_of_80_columns_gets_whole_words_and_a_hint_to_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = Terminal()
    console = Console(file=written, force_terminal=True, width=80, no_color=True, soft_wrap=True)
    monkeypatch.setattr(output, "stderr", console)
    said = "k3d-dev-server-0 pulls localhost:5000 from http://elsewhere:5000, not from us; " * 3

    output.show_error(ClusterRefused(said.strip(), f"autoregistry cluster {'attach ' * 20}"), "")

    lines = re.sub(r"\x1b\[[\d;]*m", "", written.getvalue()).splitlines()
    *sentences, hint = lines
    assert max(map(len, sentences)) <= 80
    assert " ".join(line.strip() for line in sentences) == f"error: {said.strip()}"
    assert hint == f"hint: autoregistry cluster {'attach ' * 20}"
