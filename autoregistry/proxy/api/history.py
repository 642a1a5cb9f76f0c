"""The last events, in memory and in the journal's file, for clients that reconnect.

The id of an entry is `<boot>-<n>`. Boots count up from the clock, so that ids of an earlier run are always smaller.
Progress is not kept. If the file cannot be written, the history only lasts until the proxy stops; the journal has
already reported the error.
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

from autoregistry.proxy.pull.journal import JOURNAL_FILE, Journal

MAX_ENTRIES = 2000
FLUSH_SECONDS = 2.0

# `said` is the payload: existing files have a column of this name.
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
    """The run of the proxy, and the number of the event in it."""

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
    payload: dict[str, Any]


class History:
    """Used from one thread. Entries are written at the next flush: no pull waits for the disk."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._unwritten: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._db: sqlite3.Connection | None = None
        self._n = 0
        self._boot = time.time_ns() // 1_000_000

    def open(self, directory: Path) -> None:
        """Load the entries of earlier runs. The journal is opened first and replaces a damaged file."""
        current = list(self.entries)
        self.entries.clear()
        with suppress(sqlite3.Error):
            self._load(directory / JOURNAL_FILE)
        if self.entries and not current:  # the clock may have been set back
            self._boot = max(self._boot, self.entries[-1].id.boot + 1)
        self.entries.extend(current)

    def _load(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=2)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        query = "SELECT boot, n, said FROM events ORDER BY boot, n"
        for boot, n, text in self._db.execute(query):
            with suppress(ValueError):
                self.entries.append(Entry(EventId(boot, n), json.loads(text)))

    @property
    def last(self) -> EventId:
        return EventId(self._boot, self._n)

    def add(self, payload: dict[str, Any]) -> Entry:
        """Give an event an id and keep it."""
        self._n += 1
        entry = Entry(self.last, {**payload, "id": str(self.last)})
        self.entries.append(entry)
        self._unwritten.append(entry)
        return entry

    def is_complete_since(self, after: EventId) -> bool:
        """Return True if no event after this one has been dropped."""
        oldest = self.entries[0].id if self.entries else self.last
        return after >= oldest or (after.boot == oldest.boot and after.n + 1 >= oldest.n)

    def flush(self) -> None:
        """Write the entries since the last flush, and delete the oldest from the file."""
        if self._db is None or not self._unwritten:
            return
        rows = [(e.id.boot, e.id.n, json.dumps(e.payload)) for e in self._unwritten]
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


async def flush_regularly(journal: Journal, history: History) -> None:
    """Flush both every two seconds, until cancelled."""
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        journal.flush()
        history.flush()
