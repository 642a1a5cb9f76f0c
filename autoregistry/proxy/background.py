"""Background work that never ends silently: errors are reported once, and permanent work is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from autoregistry.events import Emit, Notice

_T = TypeVar("_T")
MIN_RESTART_SECONDS = 0.5
MAX_RESTART_SECONDS = 30.0
# Work that has run for so long after a restart counts as well again.
WELL_SECONDS = 60.0


class Background:
    """The background tasks of one proxy."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failing: dict[str, str] = {}
        """Name of the permanent work that failed lately, to the last error."""

    def once(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `work` as a task. An error is reported as a notice; the task keeps it as well."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def permanently(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`, and run it again with back-off whenever it raises an error. It may end by itself."""
        self.once(name, self._supervise(name, work))

    async def stop(self) -> None:
        """Cancel all tasks and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def _supervise(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause, loop = MIN_RESTART_SECONDS, asyncio.get_running_loop()
        while True:
            well = loop.call_later(WELL_SECONDS, self.failing.pop, name, None)
            began = loop.time()
            try:
                await work()
            except Exception as exc:
                if name not in self.failing:
                    self._report(name, exc, "it is restarted")
                self.failing[name] = f"{type(exc).__name__}: {exc}"
            else:
                return
            finally:
                well.cancel()
            pause = MIN_RESTART_SECONDS if loop.time() - began > WELL_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_RESTART_SECONDS)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(task.get_name(), error, "")

    def _report(self, name: str, error: BaseException, consequence: str) -> None:
        cause = f"{type(error).__name__}: {error}"
        self._emit(
            Notice(f"internal error in {name} ({cause})" + f"; {consequence}" * bool(consequence))
        )
