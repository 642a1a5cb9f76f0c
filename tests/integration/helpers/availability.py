"""Skips tests where a machine cannot have a part of the lab."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from dev.lab import LabError

_T = TypeVar("_T")


def or_skip(bring_up: Callable[[], _T]) -> _T:
    """Return the result of `bring_up`. If it fails, skip the test, or let it fail if CI is set."""
    try:
        return bring_up()
    except LabError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
