"""Errors of the lab.

LabError
└── UnavailableError    this machine cannot have the part: tests skip, the demo reports the reason
"""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 20


class LabError(Exception):
    """A part failed; the message ends with the end of its log."""


class UnavailableError(LabError):
    """This machine cannot have that part (not root, not Debian, or the user's own Docker)."""


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the end of a log, indented, for the lines below an error's first line."""
    if not log.is_file():
        return f"    (no log at {log})"
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join([f"    {log}:", *(f"    | {line}" for line in last)])
