"""What can go wrong while the lab comes up.

LabError
└── UnavailableError    this machine cannot have the part at all: a test skips, a demo says why
"""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 20


class LabError(Exception):
    """A part failed; the message ends with the tail of its log."""


class UnavailableError(LabError):
    """This machine cannot have that part (not root, not Debian, somebody else's Docker)."""


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The end of a log, indented, to stand below an error's first line."""
    if not log.is_file():
        return f"    (no log at {log})"
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"    {log}:", *(f"    | {line}" for line in last)])
