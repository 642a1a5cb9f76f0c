"""How a push ended, in words that fit a status line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from autoregistry.errors import AutoregistryError

MAX_CAUSE = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a flight ended."""

    pushed_bytes: int
    seconds: float
    error: AutoregistryError | None = None
    """Why the registry still lacks Docker's image; None where it has it."""

    def __str__(self) -> str:
        if not self.pushed_bytes:
            return f"pushed in {self.seconds:.1f} s, its layers were there"
        return f"pushed {self.pushed_bytes / 1e6:.1f} MB in {self.seconds:.1f} s"


def one_line(text: str) -> str:
    """A cause as it may stand in a status line: printable, one line, not endless."""
    plain = "".join(c if c.isprintable() and c.isascii() else " " for c in text)
    return " ".join(plain.split())[:MAX_CAUSE]


def registrys_cause(error: bytes) -> str | None:
    """Why the registry failed: distribution puts a driver's error into `detail`, as a text or as an errno."""
    try:
        first = json.loads(error)["errors"][0]
        detail = first.get("detail")
        if isinstance(detail, str):
            return detail.rpartition(": ")[2]
        if isinstance(detail, dict):
            return os.strerror(int(detail["Enclosed"]["Err"])).lower()
        return str(first["message"])
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
