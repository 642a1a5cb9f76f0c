"""The lock of `up` and `down`: of this user's processes, one at a time changes the stack of a daemon.

The kernel releases it when a process ends, however it ends. A lock kept by Docker would outlive a killed `up`.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from autoregistry.settings import Settings
from autoregistry.stack.steps import Report, StepDone, StepStarted

WAITING = "waiting for another up or down"


@contextmanager
def stack_lock(daemon_identity: str, report: Report) -> Iterator[None]:
    """Hold the lock, and wait while another process has it. Without a home to write to there is no lock."""
    name = re.sub(r"[^\w-]", "-", daemon_identity)
    path = Settings().state.expanduser() / f"up-{name}.lock"
    with ExitStack() as exits:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            _lock(exits.enter_context(path.open("a")), report)
        yield


def _lock(file: IO[str], report: Report) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report(StepStarted(WAITING))
        fcntl.flock(file, fcntl.LOCK_EX)
        report(StepDone(WAITING, "done", has_changed=False))
