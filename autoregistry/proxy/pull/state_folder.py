"""The folder of one registry's state, with a lock that keeps other processes out of it."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

from autoregistry.errors import StateInUse

LOCK_FILE = "lock"
STATE_FILE = "journal.sqlite"


def folder_for(registry: str, state: Path) -> Path:
    """Return the folder of the registry of this name, `HOST:PORT`, in the folder of `--state`."""
    return state.expanduser() / re.sub(r"[^A-Za-z0-9.-]", "_", registry)


class StateFolder:
    """A folder that at most one process uses. The kernel drops the lock when the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
        """The descriptor of the lock file, or -1."""
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        self._owner = f"pid {os.getpid()} on {socket.gethostname()}, started {started}\n"

    def hold(self) -> None:
        """Create and lock the folder, unless both is done. Raises StateInUse, OSError."""
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._lock), (self.path / LOCK_FILE).stat()):
                return
        self.release()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock, 1000).decode(errors="replace").strip()
            self.release()
            raise StateInUse(
                f"another autoregistry uses the state in {self.path}: {owner or 'an unknown process'}",
                "autoregistry serve --state DIR",
            ) from None
        except OSError:
            pass  # a file system without locks
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.write(self._lock, self._owner.encode())

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
