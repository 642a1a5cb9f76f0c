"""Background work that never ends silently: errors are reported once, and permanent work is restarted.

What blocks runs in threads. asyncio's default executor is not used: it also resolves host names.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice

_T = TypeVar("_T")
MIN_RESTART_SECONDS = 0.5
MAX_RESTART_SECONDS = 30.0
# Work that has run for so long after a restart counts as well again.
WELL_SECONDS = 60.0
# Threads start when they are needed. What hangs takes two for each name: a node, for example.
THREADS = 256
THREADS_PER_NAME = 2


class Background:
    """The background tasks and threads of one proxy."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._tasks: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)
        """By name."""
        self._threads = ThreadPoolExecutor(THREADS, "background")
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._reported: set[str] = set()
        """The names of calls in threads that failed the last time with an internal error."""
        self.failing: dict[str, str] = {}
        """Name of the permanent work that failed lately, to the last error."""

    def once(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `work` as a task. An error is reported as a notice; the task keeps it as well."""
        task = asyncio.create_task(work, name=name)
        self._tasks[name].add(task)
        task.add_done_callback(self._ended)
        return task

    def permanently(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work`, and run it again with back-off whenever it raises an error. It may end by itself."""
        self.once(name, self._supervise(name, work))

    def replace(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `work` as a task, in place of the earlier tasks of this name, which are cancelled."""
        self.cancel(name)
        return self.once(name, work)

    def cancel(self, name: str) -> None:
        """Cancel the tasks of this name."""
        for task in self._tasks.get(name, ()):
            task.cancel()

    async def in_thread(self, name: str, function: Callable[..., _T], *args: Any) -> _T:  # noqa: ANN401  # the function's own arguments
        """Call a function that blocks, in a thread; at most two at once for each name.

        An internal error is reported once, and becomes an AutoregistryError.
        """
        slot = self._slots.setdefault(name, asyncio.Semaphore(THREADS_PER_NAME))
        await slot.acquire()
        call = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args))
        call.add_done_callback(lambda _: slot.release())
        try:
            result = await asyncio.shield(call)  # a thread goes on if its task is cancelled
        except AutoregistryError:
            raise
        except Exception as exc:
            if name not in self._reported:
                self._reported.add(name)
                self._report(name, exc)
            raise AutoregistryError(f"internal error ({_cause(exc)})") from exc
        self._reported.discard(name)
        return result

    async def stop(self) -> None:
        """Cancel all tasks and wait for them. Threads that hang are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        tasks = list(itertools.chain(*self._tasks.values()))
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
                    self._report(name, exc, "; it is restarted")
                self.failing[name] = _cause(exc)
            else:
                return
            finally:
                well.cancel()
            pause = MIN_RESTART_SECONDS if loop.time() - began > WELL_SECONDS else pause
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_RESTART_SECONDS)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        name = task.get_name()
        self._tasks[name].discard(task)
        if not self._tasks[name]:
            del self._tasks[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(name, error)

    def _report(self, name: str, error: BaseException, consequence: str = "") -> None:
        self._emit(Notice(f"internal error in {name} ({_cause(error)}){consequence}"))


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
