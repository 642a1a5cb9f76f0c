"""How lines look in a terminal: a name stands out, what is said of it does not."""

from __future__ import annotations

from autoregistry.cli.output import line
from autoregistry.events import HandPushSeen
from autoregistry.names import Image


def test_only_the_name_of_a_line_is_bold() -> None:
    shown = line(HandPushSeen(Image("shop/api", "dev"), "crane", "sha256:aa"))

    assert shown is not None
    styles = {shown.plain[span.start : span.end].strip(): span.style for span in shown.spans}
    assert (shown.style, styles["shop/api:dev"]) == ("", "bold")
    assert styles["pushed by hand (crane)"] == "dim"
