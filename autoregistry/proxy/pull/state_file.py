"""The SQLite file of the proxy's state, in a folder with a lock that keeps other processes out of it.

The owners of the data keep it in memory and write it with `write`. A write that fails is repeated by the owner; the
proxy never waits for a lock and never stops because of the file. The file is opened again when it was damaged,
deleted, or could not be written.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from autoregistry.errors import StateInUse

LOCK_FILE = "lock"
STATE_FILE = "journal.sqlite"
# After a failure the file is left alone for so long, however much changes meanwhile.
REOPEN_SECONDS = 0.5


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


class StateFile:
    """One SQLite file. It is used from one thread."""

    def __init__(self, directory: Path, schema: str, notice: Callable[[str], None]) -> None:
        """Lock the folder. Raises StateInUse."""
        self._folder = StateFolder(directory)
        self._path = directory / STATE_FILE
        self._schema = schema
        self._notice = notice
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._failed_at = -REOPEN_SECONDS
        self.failure = ""
        """The reason why the last write failed. Empty if it did not."""
        self.generation = 0
        """Grows with each file that is opened: what an older one had must be written again."""
        with suppress(OSError):
            self._folder.hold()

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, or none if the file cannot be read."""
        rows: list[tuple[Any, ...]] = []
        self._attempt(lambda db: rows.extend(db.execute(query)))
        return rows

    def write(self, transaction: Callable[[sqlite3.Connection], None]) -> bool:
        """Run `transaction` as a whole or not at all. Return False if the file cannot be written now."""

        def run(db: sqlite3.Connection) -> None:
            with db:  # commits, or rolls back what has begun
                db.execute("BEGIN IMMEDIATE")
                transaction(db)

        has_written = self._attempt(run)
        if has_written and self.failure:
            self.failure = ""
            self._notice(f"the journal {self._path} is written again")
        return has_written

    def ensure_open(self) -> bool:
        """Open the file if it is not open, or not there any more. Return False if that fails."""
        return self._attempt(lambda _: None)

    def close(self) -> None:
        self._close_database()
        self._folder.release()

    def _close_database(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _attempt(self, use: Callable[[sqlite3.Connection], None]) -> bool:
        if time.monotonic() - self._failed_at < REOPEN_SECONDS:
            return False
        try:
            try:
                use(self._connection())
            except sqlite3.DatabaseError as exc:
                if isinstance(exc, sqlite3.OperationalError):
                    raise
                self._set_aside(exc)
                use(self._connection())
        except (OSError, sqlite3.Error, StateInUse) as exc:
            if not self.failure:
                self._notice(
                    f"the journal {self._path} cannot be written ({exc}): "
                    "it is kept in memory, and written as soon as that works"
                )
            self.failure, self._failed_at = str(exc), time.monotonic()
            return False
        return True

    def _connection(self) -> sqlite3.Connection:
        self._folder.hold()
        with suppress(FileNotFoundError):
            if self._db is not None and self._path.stat().st_ino == self._inode:
                return self._db
        self._close_database()
        self._db = _connect(self._path, self._schema)
        self._inode = self._path.stat().st_ino
        self.generation += 1
        return self._db

    def _set_aside(self, cause: sqlite3.Error) -> None:
        self._close_database()
        aside = self._path.with_suffix(f".damaged-{int(time.time())}")
        self._path.rename(aside)
        for leftover in (f"{self._path}-wal", f"{self._path}-shm"):
            Path(leftover).unlink(missing_ok=True)
        self._notice(
            f"the journal was damaged ({cause}): renamed to {aside.name}, and started again"
        )


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    # timeout=0: the event loop must not wait for another process; the write is repeated.
    db = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        # WAL with NORMAL loses nothing when the process is killed (sqlite.org/pragma.html#pragma_synchronous).
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(schema)
        if (state := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(str(state))
    except sqlite3.Error:
        db.close()
        raise
    return db
