"""The steps of `up` and `down` as frozen values, reported while they happen. The caller displays them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step that takes time has started."""

    name: str


@dataclass(frozen=True, slots=True)
class StepProgress:
    """The progress of a step, in bytes if `is_bytes`, else in parts. A total of 0 means unknown."""

    name: str
    done: int
    total: int
    text: str = ""
    is_bytes: bool = False


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is done, with this result."""

    name: str
    result: str
    has_changed: bool = True


Step = StepStarted | StepProgress | StepDone
Report = Callable[[Step], None]
