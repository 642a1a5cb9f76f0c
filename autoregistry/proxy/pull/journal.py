"""The journal: what the proxy has learned and must not forget, even when it is killed.

Per tag it keeps the last state in which Docker and the registry were known to agree or to differ on purpose, what
Docker has reported since, the reason if the tag is stale, and the times of the last push and pull. Everything is in
memory as well and is written at once. If that fails, it is written as soon as the file can be written again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

from autoregistry.decision import Base, TagRecord
from autoregistry.names import Image
from autoregistry.proxy.pull.state_file import StateFile

CUT_OFF = "its push was cut off"
"""The reason why a tag is stale while it is pushed. It remains in the journal if the push does not end."""
NEWER_BUILD = "a newer build has not been pushed yet"
"""The reason why a tag is stale after the push of a build that was replaced meanwhile."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tag_records (
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    docker_identity TEXT,
    registry_digest TEXT,
    manual_at REAL,
    reported_at REAL,
    stale_because TEXT,
    pushed_at REAL,
    pulled_at REAL,
    PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reported_ids (identity TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    boot INTEGER NOT NULL,
    n INTEGER NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (boot, n)
) WITHOUT ROWID;
"""


@dataclass(slots=True)
class _Row:
    """A row of `tag_records` without its key."""

    record: TagRecord = field(default_factory=TagRecord)
    pushed_at: float | None = None
    pulled_at: float | None = None

    def columns(self) -> tuple[object, ...]:
        record = self.record
        base = astuple(record.base) if record.base else (None, None, None)
        return (*base, record.reported_at, record.stale_because, self.pushed_at, self.pulled_at)


class Journal:
    """One journal. It is used from one thread."""

    def __init__(self, directory: Path, notice: Callable[[str], None]) -> None:
        """Load what the folder has. Raises StateInUse."""
        self.file = StateFile(directory, _SCHEMA, notice)
        self._rows: dict[Image, _Row] = {}
        self.reported_ids: dict[str, float] = {}
        """The reported Ids whose names are not known yet, and the times of their reports."""
        self._notes: dict[str, str] = {}
        self._unwritten: set[Image] = set()
        self._is_changed = False
        """Reported Ids or notes have changed since they were written."""
        self._load()
        self._generation = self.file.generation

    def close(self) -> None:
        self.save()
        self.file.close()

    def record(self, image: Image) -> TagRecord:
        """Return what the journal knows about a tag."""
        return self._rows.get(image, _Row()).record

    def set_found(
        self, image: Image, docker_identity: str | None, registry_digest: str, *, is_same: bool
    ) -> None:
        """Record that both sides were found to have the same, or to differ on purpose. Written later."""
        base, manual_at = self.record(image).base, None
        if not is_same:
            manual_at = base.manual_at if base and base.manual_at else time.time()
        record = TagRecord(Base(docker_identity, registry_digest, manual_at))
        if record != self.record(image):
            self._change(image, record, at_once=False)

    def set_pushed(
        self, image: Image, docker_identity: str | None, registry_digest: str, *, manually: bool
    ) -> None:
        """Record that a push has set a tag while Docker had an image of this Id under the name.

        `docker_identity` is NOT_READ if Docker could not be reached, and None if it had no such image.
        """
        now = time.time()
        base = Base(docker_identity, registry_digest, now if manually else None)
        self._change(image, TagRecord(base), now)

    def set_reported(self, image: Image, at: float) -> None:
        """Record that Docker has reported this name at that time (seconds since the epoch), or that a user asks for it.

        Docker's image then replaces the registry's, unless a manual push was later.
        """
        record = self.record(image)
        manual_at = record.base.manual_at if record.base else None
        # A time in the future was noted before the clock was set back: it tells nothing.
        if not (manual_at and 0 < at <= manual_at <= time.time()):
            self._change(image, replace(record, reported_at=at))

    def set_stale(self, image: Image, because: str) -> None:
        """Record that the registry's image is older than Docker's, and must not be served until that changes."""
        self._change(image, replace(self.record(image), stale_because=because))

    def clear_stale(self, image: Image) -> None:
        """Record that nothing is left to push."""
        record = self.record(image)
        if record.stale_because or record.reported_at:
            self._change(image, TagRecord(record.base))

    def set_pulled(self, image: Image) -> None:
        """Record the time of a pull. It is written with the next change: a pull must not wait for the disk."""
        self._rows.setdefault(image, _Row()).pulled_at = time.time()
        self._unwritten.add(image)

    def add_reported_id(self, identity: str, at: float) -> None:
        """Record that Docker has loaded or imported an image of this Id, whose names are not known yet."""
        self.reported_ids[identity] = at
        self._is_changed = True
        self.save()

    def remove_reported_id(self, identity: str) -> None:
        """Record that the names of a reported Id are known."""
        if self.reported_ids.pop(identity, None) is not None:
            self._is_changed = True
            self.save()

    def note(self, name: str) -> str | None:
        """Return a value that belongs to no tag, such as the time of Docker's last event."""
        return self._notes.get(name)

    def set_note(self, name: str, value: str) -> None:
        self._notes[name] = value
        self._is_changed = True
        self.save()

    def dates(self, image: Image) -> tuple[float | None, float | None]:
        """Return the times when a tag was last pushed and last pulled, in seconds since the epoch."""
        row = self._rows.get(image, _Row())
        return row.pushed_at, row.pulled_at

    @property
    def images(self) -> list[Image]:
        """Every tag that the journal knows."""
        return list(self._rows)

    def save(self) -> None:
        """Write what has changed. If that fails, the next call writes it."""
        if not self.file.ensure_open():
            return
        if self._generation != self.file.generation:
            self._generation, self._unwritten = self.file.generation, set(self._rows)
            self._is_changed = True
        if (self._unwritten or self._is_changed) and self.file.write(self._write):
            self._unwritten, self._is_changed = set(), False

    def _change(
        self, image: Image, record: TagRecord, pushed_at: float = 0.0, *, at_once: bool = True
    ) -> None:
        row = self._rows.setdefault(image, _Row())
        row.record, row.pushed_at = record, pushed_at or row.pushed_at
        self._unwritten.add(image)
        if at_once:
            self.save()

    def _write(self, db: sqlite3.Connection) -> None:
        rows = [(i.repository, i.tag, *self._rows[i].columns()) for i in self._unwritten]
        db.executemany(
            "INSERT OR REPLACE INTO tag_records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        if self._is_changed:
            db.execute("DELETE FROM reported_ids")
            db.executemany("INSERT INTO reported_ids VALUES (?, ?)", self.reported_ids.items())
            db.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?)", self._notes.items())

    def _load(self) -> None:
        for repository, tag, *base, reported, stale, pushed, pulled in self.file.read(
            "SELECT * FROM tag_records"
        ):
            record = TagRecord(Base(*base) if base[1] is not None else None, reported, stale)
            self._rows[Image(repository, tag)] = _Row(record, pushed, pulled)
        self.reported_ids = dict(self.file.read("SELECT identity, at FROM reported_ids"))
        self._notes = dict(self.file.read("SELECT name, value FROM notes"))
