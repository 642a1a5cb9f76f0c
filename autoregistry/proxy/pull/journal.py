"""The journal: one SQLite file with what must survive a kill of the proxy.

Per tag it keeps if a manual push set it and what Docker had then, the reason if it is stale, and the times of the last
push and pull. A damaged or unwritable file never stops the registry: the file is renamed, or the journal continues in
memory, and a notice reports it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autoregistry.decision import TagRecord
from autoregistry.names import Image

JOURNAL_FILE = "journal.sqlite"
UNKNOWN = "unknown"
"""In place of Docker's Id: Docker could not be reached. The image that it has when it is next reached counts."""

CUT_OFF = "its push was cut off"
"""The reason why a tag is stale while it is pushed. It remains in the journal if the push does not end."""

_JOURNAL_SCHEMA = """
CREATE TABLE IF NOT EXISTS tags (
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    by_hand INTEGER NOT NULL DEFAULT 0,
    docker_had TEXT,
    stale_because TEXT,
    pushed_at REAL,
    pulled_at REAL,
    PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Journal:
    """One journal. It is used from one thread."""

    def __init__(self, directory: Path | None, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._pulled: dict[Image, float] = {}
        self._db = self._open(directory)

    def _open(self, directory: Path | None) -> sqlite3.Connection:
        if directory is not None:
            path = directory / JOURNAL_FILE
            try:
                directory.mkdir(parents=True, exist_ok=True)
                try:
                    return _connect(str(path))
                except sqlite3.DatabaseError as exc:
                    if isinstance(exc, sqlite3.OperationalError):
                        raise
                    aside = path.with_suffix(f".damaged-{int(time.time())}")
                    path.rename(aside)
                    for leftover in (f"{path}-wal", f"{path}-shm"):
                        Path(leftover).unlink(missing_ok=True)
                    self._notice(
                        f"the journal was damaged ({exc}): renamed to {aside.name}, and started again"
                    )
                    return _connect(str(path))
            except (OSError, sqlite3.Error) as exc:
                self._notice(
                    f"the journal {path} cannot be written ({exc}): kept in memory until the proxy stops"
                )
        return _connect(":memory:")

    def close(self) -> None:
        self.flush()
        self._db.close()

    def record(self, image: Image) -> TagRecord:
        """Return what the journal knows about a tag."""
        rows = self._read(
            "SELECT by_hand, docker_had, stale_because FROM tags WHERE repository = ? AND tag = ?",
            (image.repository, image.tag),
        )
        return TagRecord(bool(rows[0][0]), *rows[0][1:]) if rows else TagRecord()

    def set_pushed_manually(self, image: Image, docker_identity: str | None) -> None:
        """Record that a manual push set a tag while Docker had an image of this Id under the name."""
        self._write_push(image, by_hand=1, docker_had=docker_identity)

    def set_pushed(self, image: Image) -> None:
        """Record that a push has brought the registry to what Docker has."""
        self._write_push(image, by_hand=0, docker_had=None)

    def clear_stale(self, image: Image) -> None:
        """Record that nothing is left to push."""
        self._write(image, stale_because=None)

    def forget_manual_push(self, image: Image) -> None:
        """Record that Docker has tagged, loaded or pulled the name again: it now wins over the manual push."""
        statement = (
            "UPDATE tags SET by_hand = 0, docker_had = NULL WHERE repository = ? AND tag = ?"
        )
        self._execute(statement, (image.repository, image.tag))

    def set_stale(self, image: Image, because: str) -> None:
        """Record that the registry's image is older than Docker's, and must not be served until that changes."""
        self._write(image, stale_because=because)

    def set_pulled(self, image: Image) -> None:
        """Record the time of a pull. It is in memory until the next flush: a pull must not wait for the disk."""
        self._pulled[image] = time.time()

    def flush(self) -> None:
        """Write the times of the pulls since the last flush."""
        pulled, self._pulled = self._pulled, {}
        for image, moment in pulled.items():
            self._write(image, pulled_at=moment)

    def note(self, name: str) -> str | None:
        """Return a value that belongs to no tag, such as the time of Docker's last event."""
        rows = self._read("SELECT value FROM notes WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def set_note(self, name: str, value: str) -> None:
        self._execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def dates(self) -> dict[Image, tuple[float | None, float | None]]:
        """Return the times when each known tag was last pushed and last pulled, in seconds since the epoch."""
        self.flush()
        rows = self._read("SELECT repository, tag, pushed_at, pulled_at FROM tags")
        return {Image(row[0], row[1]): (row[2], row[3]) for row in rows}

    def _read(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as exc:
            self._continue_in_memory(exc)
            return []

    def _write_push(self, image: Image, **columns: object) -> None:
        self._write(image, stale_because=None, pushed_at=time.time(), **columns)

    def _write(self, image: Image, **columns: object) -> None:
        names = ", ".join(columns)
        marks = ", ".join("?" for _ in columns)
        updates = ", ".join(f"{name} = excluded.{name}" for name in columns)
        self._execute(
            f"INSERT INTO tags (repository, tag, {names}) VALUES (?, ?, {marks}) "  # noqa: S608 - our own column names
            f"ON CONFLICT (repository, tag) DO UPDATE SET {updates}",
            (image.repository, image.tag, *columns.values()),
        )

    def _execute(self, statement: str, values: Iterable[object]) -> None:
        values = tuple(values)
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as exc:
            self._continue_in_memory(exc)
            self._db.execute(statement, values)

    def _continue_in_memory(self, cause: sqlite3.Error) -> None:
        """Copy what can be read into memory: the disk is full or gone, or the file was damaged while in use."""
        self._notice(
            f"the journal cannot be written ({cause}): kept in memory until the proxy stops"
        )
        fresh = _connect(":memory:")
        try:
            for table in ("tags", "notes"):
                for row in self._db.execute(f"SELECT * FROM {table}"):  # noqa: S608 - our own table names
                    marks = ", ".join("?" for _ in row)
                    fresh.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
        except sqlite3.Error:
            pass  # the copy has what could be read
        self._db.close()
        self._db = fresh


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=2)
    try:
        # WAL with NORMAL loses nothing when the process is killed (sqlite.org/pragma.html#pragma_synchronous).
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_JOURNAL_SCHEMA)
        if (state := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(str(state))
    except sqlite3.Error:
        db.close()
        raise
    return db
