"""The last events, in memory and in the journal's file, for clients that reconnect.

The id of an entry is `<boot>-<n>`. Boots count up from the clock, so that ids of an earlier run are always smaller.
Progress is not kept. If the file cannot be written, the entries are written as soon as that works; the journal has
reported the error.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.state_file import StateFile

MAX_ENTRIES = 2000
SAVE_SECONDS = 1.0


class EventId(NamedTuple):
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


class Entry(NamedTuple):
    """One event as it is sent."""

    id: EventId
    payload: dict[str, Any]


class History:
    """Used from one thread. Entries are written by `save`: no pull waits for the disk."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self.last = EventId(time.time_ns() // 1_000_000, 0)
        self._written = EventId(0, 0)
        """The last entry in the file."""
        self._file: StateFile | None = None
        self._generation = 0

    def open(self, file: StateFile) -> None:
        """Put the entries of earlier runs, from the journal's file, before those of this one."""
        early = list(self.entries)
        self.entries.clear()
        self._file, self._generation = file, file.generation
        for boot, n, text in file.read("SELECT boot, n, said FROM events ORDER BY boot, n"):
            with suppress(ValueError):
                self.entries.append(Entry(EventId(boot, n), json.loads(text)))
                self._written = EventId(boot, n)
        # The clock may have been set back since the last run.
        self.last = EventId(max(self.last.boot, self._written.boot + 1), 0)
        for entry in early:
            self.add(entry.payload)

    def add(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Keep an event, and return it with its id."""
        self.last = EventId(self.last.boot, self.last.n + 1)
        self.entries.append(Entry(self.last, {**payload, "id": str(self.last)}))
        return self.entries[-1].payload

    def is_complete_since(self, after: EventId) -> bool:
        """Return True if no event after this one has been dropped."""
        oldest = self.entries[0].id if self.entries else self.last
        return after >= oldest or (after.boot == oldest.boot and after.n + 1 >= oldest.n)

    def save(self) -> None:
        """Write the entries since the last call, and delete the oldest from the file."""
        if self._file is None or not self._file.ensure_open():
            return
        if self._generation != self._file.generation:  # a new file has none of them
            self._generation, self._written = self._file.generation, EventId(0, 0)
        if self.entries and self.entries[-1].id > self._written and self._file.write(self._write):
            self._written = self.entries[-1].id

    def _write(self, db: sqlite3.Connection) -> None:
        new = ((*e.id, json.dumps(e.payload)) for e in self.entries if e.id > self._written)
        db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", new)
        db.execute("DELETE FROM events WHERE (boot, n) < (?, ?)", self.entries[0].id)


async def save_regularly(journal: Journal, history: History) -> None:
    """Write both every second, until cancelled: what could not be written at once, and what need not be."""
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        journal.save()
        history.save()
