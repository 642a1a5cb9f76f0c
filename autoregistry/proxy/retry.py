"""Retries with pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


async def retry(attempt: Callable[[], Awaitable[_T | None]], pauses: Iterable[float]) -> _T | None:
    """Return the first result that is not None. Wait for the next pause (seconds) before each further attempt.

    Returns None when the pauses are used up. Errors of an attempt are not caught.
    """
    result = await attempt()
    for pause in pauses:
        if result is not None:
            return result
        await asyncio.sleep(pause)
        result = await attempt()
    return result
