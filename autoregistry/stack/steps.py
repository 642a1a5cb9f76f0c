"""What happens while the stack is made, as frozen values; who shows them is not known here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepBegun:
    """Something that takes time has begun."""

    name: str


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far it is: in bytes where `is_bytes`, else in parts; a total of 0 is not known."""

    name: str
    done: int
    total: int
    text: str = ""
    is_bytes: bool = False


@dataclass(frozen=True, slots=True)
class StepDone:
    """It is done, and what came of it."""

    name: str
    result: str
    has_changed: bool = True


Step = StepBegun | StepProgress | StepDone
Emit = Callable[[Step], None]
