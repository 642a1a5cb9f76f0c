"""What must not be forgotten when we are killed: one SQLite file.

For each tag: who set it last and what Docker had then (a push by hand is respected), whether it is known to be
stale and why, when it was last pulled and pushed. A damaged or unwritable file never stops the registry: it is
put aside, or the journal is kept in memory, and one sentence says so.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from autoregistry.decision import TagRecord
from autoregistry.names import Image

FILE = "journal.sqlite"
UNKNOWN = "unknown"
"""Docker could not be asked what it had: the first image it is then seen to have counts as that."""

CUT_OFF = "its push was cut off"
"""Why a tag is stale while a push of it is under way; whoever reads it afterwards knows that it did not end."""

_SCHEMA = """
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
    """One journal; used from one thread."""

    def __init__(self, directory: Path | None, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._pulled: dict[Image, float] = {}
        self._db = self._open(directory)

    def _open(self, directory: Path | None) -> sqlite3.Connection:
        if directory is not None:
            path = directory / FILE
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
                        f"the journal was damaged ({exc}): put aside as {aside.name}, begun anew"
                    )
                    return _connect(str(path))
            except (OSError, sqlite3.Error) as exc:
                self._notice(
                    f"the journal {path} cannot be written ({exc}): kept in memory, and lost when we stop"
                )
        return _connect(":memory:")

    def close(self) -> None:
        self.flush()
        self._db.close()

    def memory(self, image: Image) -> TagRecord:
        """What is known about a tag."""
        rows = self._read(
            "SELECT by_hand, docker_had, stale_because FROM tags WHERE repository = ? AND tag = ?",
            (image.repository, image.tag),
        )
        return TagRecord(bool(rows[0][0]), *rows[0][1:]) if rows else TagRecord()

    def set_by_hand(self, image: Image, docker_had: str | None) -> None:
        """Somebody else's push has set this tag while Docker had that image of the name."""
        self._write(
            image, by_hand=1, docker_had=docker_had, stale_because=None, pushed_at=time.time()
        )

    def set_by_us(self, image: Image) -> None:
        """Our push has brought the registry to what Docker has."""
        self._write(image, by_hand=0, docker_had=None, stale_because=None, pushed_at=time.time())

    def in_step(self, image: Image) -> None:
        """The registry was seen to have what Docker has."""
        self._write(image, stale_because=None)

    def forget_hand(self, image: Image) -> None:
        """Docker reports the name tagged, loaded or pulled again: it wins over a push by hand from now on."""
        statement = (
            "UPDATE tags SET by_hand = 0, docker_had = NULL WHERE repository = ? AND tag = ?"
        )
        self._execute(statement, (image.repository, image.tag))

    def set_stale(self, image: Image, because: str) -> None:
        """Docker has another image than the registry, which is not to be served as long as that is so."""
        self._write(image, stale_because=because)

    def pulled(self, image: Image) -> None:
        """Kept in memory until the next flush: a pull must not wait for the disk."""
        self._pulled[image] = time.time()

    def flush(self) -> None:
        """Write down the pulls since the last flush."""
        pulled, self._pulled = self._pulled, {}
        for image, moment in pulled.items():
            self._write(image, pulled_at=moment)

    def note(self, name: str) -> str | None:
        """A fact that concerns no tag, such as the time of Docker's last event."""
        rows = self._read("SELECT value FROM notes WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def set_note(self, name: str, value: str) -> None:
        self._execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def known(self) -> dict[Image, tuple[float | None, float | None]]:
        """Every tag ever seen: when it was last pushed, and last pulled (seconds since the epoch)."""
        self.flush()
        rows = self._read("SELECT repository, tag, pushed_at, pulled_at FROM tags")
        return {Image(row[0], row[1]): (row[2], row[3]) for row in rows}

    def _read(self, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as exc:
            self._give_up(exc)
            return []

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
            self._give_up(exc)
            self._db.execute(statement, values)

    def _give_up(self, cause: sqlite3.Error) -> None:
        """The disk is full or gone, or the file was damaged under us: go on in memory, with all that can be read."""
        self._notice(
            f"the journal cannot be written ({cause}): kept in memory from now on, and lost when we stop"
        )
        fresh = _connect(":memory:")
        try:
            for table in ("tags", "notes"):
                for row in self._db.execute(f"SELECT * FROM {table}"):  # noqa: S608 - our own table names
                    marks = ", ".join("?" for _ in row)
                    fresh.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
        except sqlite3.Error:
            pass  # what could be read was kept
        self._db.close()
        self._db = fresh


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=2)
    try:
        # WAL with NORMAL loses nothing when the process is killed (sqlite.org/pragma.html#pragma_synchronous).
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        if (state := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(str(state))
    except sqlite3.Error:
        db.close()
        raise
    return db
