"""The last events, bounded, in memory and in the journal's file: what a client that was away is told again.

An entry is named `<boot>-<n>`: boots count up from the clock, so that names of an earlier run are always older.
Progress is not kept: it is of interest only while it happens. A file that cannot be written costs the history
its life beyond ours, nothing else; the journal has said so by then.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoregistry.proxy.pull.journal import FILE, Journal

KEPT = 2000
FLUSH_SECONDS = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    boot INTEGER NOT NULL,
    n INTEGER NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (boot, n)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """Which run, and which event of it."""

    boot: int
    n: int

    def __str__(self) -> str:
        return f"{self.boot}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        boot, _, n = text.partition("-")
        if boot.isdecimal() and n.isdecimal() and len(text) < 40:
            return cls(int(boot), int(n))
        return None


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it is sent."""

    id: EventId
    said: dict[str, Any]


class History:
    """Used from one thread. Entries become durable at the next flush: no pull waits for the disk."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self._unwritten: deque[Entry] = deque(maxlen=KEPT)
        self._db: sqlite3.Connection | None = None
        self._n = 0
        self._boot = time.time_ns() // 1_000_000

    def open(self, directory: Path) -> None:
        """Take in what earlier runs left; after the journal, which sees to a damaged file."""
        so_far = list(self.entries)
        self.entries.clear()
        with suppress(sqlite3.Error):
            self._load(directory / FILE)
        if self.entries and not so_far:  # the clock may have been set back
            self._boot = max(self._boot, self.entries[-1].id.boot + 1)
        self.entries.extend(so_far)

    def _load(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=2)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        query = "SELECT boot, n, said FROM events ORDER BY boot, n"
        for boot, n, said in self._db.execute(query):
            with suppress(ValueError):
                self.entries.append(Entry(EventId(boot, n), json.loads(said)))

    @property
    def last(self) -> EventId:
        return EventId(self._boot, self._n)

    def add(self, said: dict[str, Any]) -> Entry:
        """Name an event and keep it."""
        self._n += 1
        entry = Entry(self.last, {**said, "id": str(self.last)})
        self.entries.append(entry)
        self._unwritten.append(entry)
        return entry

    def reaches(self, after: EventId) -> bool:
        """Whether everything since that event is still here."""
        oldest = self.entries[0].id if self.entries else self.last
        return after >= oldest or (after.boot == oldest.boot and after.n + 1 >= oldest.n)

    def flush(self) -> None:
        """Write down what came since the last flush, and let go of what is too old."""
        if self._db is None or not self._unwritten:
            return
        rows = [(e.id.boot, e.id.n, json.dumps(e.said)) for e in self._unwritten]
        oldest = self.entries[0].id
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", rows)
            self._db.execute("DELETE FROM events WHERE (boot, n) < (?, ?)", (oldest.boot, oldest.n))
            self._db.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            return
        self._unwritten.clear()

    def close(self) -> None:
        self.flush()
        if self._db is not None:
            self._db.close()


async def write_down(journal: Journal, history: History) -> None:
    """Both, every other moment, until cancelled."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        journal.flush()
        history.flush()
