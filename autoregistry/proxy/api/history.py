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
from dataclasses import dataclass
from typing import Any

from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.state_file import StateFile

MAX_ENTRIES = 2000
SAVE_SECONDS = 1.0


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
    """Used from one thread. Entries are written by `save`: no pull waits for the disk."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._unwritten: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._file: StateFile | None = None
        self._generation = 0
        self._n = 0
        self._boot = time.time_ns() // 1_000_000

    def open(self, file: StateFile) -> None:
        """Load the entries of earlier runs from the journal's file."""
        current = list(self.entries)
        self.entries.clear()
        self._file, self._generation = file, file.generation
        for boot, n, text in file.read("SELECT boot, n, said FROM events ORDER BY boot, n"):
            with suppress(ValueError):
                self.entries.append(Entry(EventId(boot, n), json.loads(text)))
        if self.entries and not current:  # the clock may have been set back
            self._boot = max(self._boot, self.entries[-1].id.boot + 1)
        self.entries.extend(current)

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

    def save(self) -> None:
        """Write the entries since the last call, and delete the oldest from the file."""
        if self._file is None or not self._file.ensure_open():
            return
        if self._generation != self._file.generation:  # a new file has none of them
            self._generation, self._unwritten = self._file.generation, self.entries.copy()
        if self._unwritten and self._file.write(self._write):
            self._unwritten.clear()

    def _write(self, db: sqlite3.Connection) -> None:
        rows = [(e.id.boot, e.id.n, json.dumps(e.payload)) for e in self._unwritten]
        oldest = self.entries[0].id
        db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", rows)
        db.execute("DELETE FROM events WHERE (boot, n) < (?, ?)", (oldest.boot, oldest.n))


async def save_regularly(journal: Journal, history: History) -> None:
    """Write both every second, until cancelled: what could not be written at once, and what need not be."""
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        journal.save()
        history.save()
