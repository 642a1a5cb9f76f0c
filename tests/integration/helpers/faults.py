"""Faults of a machine: a full disk, a locked journal, and a clock that is set back."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dev.lab import debian


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """Mount a small file system."""
    directory.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """Fill the file system of `directory` to its last byte."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def locked_database(file: Path) -> Iterator[None]:
    """Hold SQLite's lock for writing, as a backup or a second process would."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


class Clock:
    """A clock that can be set while a process uses it. Raises UnavailableError if it cannot be installed.

    Go programs, such as Docker, do not use it: they read the time without the C library.
    """

    def __init__(self, file: Path) -> None:
        debian.install("libfaketime")
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self._file = file
        self.seconds = 0
        """The time by which it is ahead of the machine's clock."""
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: int) -> None:
        self.seconds = seconds
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self._file)  # the process reads it at any time
