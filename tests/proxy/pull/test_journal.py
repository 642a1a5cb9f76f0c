"""The journal survives a kill, a full disk and a damaged file, and never stops the registry."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoregistry.decision import TagRecord
from autoregistry.names import Image
from autoregistry.proxy.pull.journal import JOURNAL_FILE, Journal

APP = Image("shop/api", "dev")


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def journal(tmp_path: Path, notices: list[str]) -> Iterator[Journal]:
    journal = Journal(tmp_path, notices.append)
    yield journal
    journal.close()


def _record_after_reopening(directory: Path) -> TagRecord:
    reopened = Journal(directory, print)
    try:
        return reopened.record(APP)
    finally:
        reopened.close()


def test_record_of_a_new_tag_is_empty(journal: Journal) -> None:
    assert TagRecord() == journal.record(APP)


def test_manual_push_is_kept(journal: Journal, tmp_path: Path) -> None:
    journal.set_pushed_manually(APP, "sha256:ours")

    assert TagRecord(
        pushed_manually=True, docker_identity="sha256:ours"
    ) == _record_after_reopening(tmp_path)


def test_manual_push_is_forgotten_when_docker_changes_or_pushes(journal: Journal) -> None:
    journal.set_pushed_manually(APP, "sha256:ours")
    journal.forget_manual_push(APP)
    changed = journal.record(APP)
    journal.set_pushed_manually(APP, "sha256:ours")
    journal.set_pushed(APP)

    assert [TagRecord(), TagRecord()] == [changed, journal.record(APP)]


def test_staleness_is_kept_until_it_is_cleared(journal: Journal, tmp_path: Path) -> None:
    journal.set_stale(APP, "disk full")
    stale = _record_after_reopening(tmp_path)
    journal.clear_stale(APP)

    assert TagRecord(stale_because="disk full") == stale
    assert TagRecord() == journal.record(APP)


def test_times_of_pulls_and_pushes_are_kept(journal: Journal) -> None:
    journal.set_pulled(APP)
    journal.set_pushed(APP)
    pushed_at, pulled_at = journal.dates()[APP]

    assert pushed_at is not None
    assert pulled_at is not None


def test_notes_are_kept(journal: Journal) -> None:
    journal.set_note("last-event", "17")

    assert (journal.note("last-event"), journal.note("other")) == ("17", None)


def test_written_records_survive_kill_9(tmp_path: Path) -> None:
    script = (
        "import os, signal, pathlib\n"
        "from autoregistry.proxy.pull.journal import Journal\n"
        "from autoregistry.names import Image\n"
        f"j = Journal(pathlib.Path({str(tmp_path)!r}), print)\n"
        "j.set_pushed_manually(Image('shop/api', 'dev'), 'sha256:ours')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert TagRecord(
        pushed_manually=True, docker_identity="sha256:ours"
    ) == _record_after_reopening(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"not a database at all" * 100, id="another file"),
        pytest.param(b"SQLite format 3\x00" + b"\x99" * 4096, id="a broken one"),
    ],
)
def test_damaged_file_is_renamed_with_one_notice(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(damage)
    notices: list[str] = []

    journal = Journal(tmp_path, notices.append)
    journal.set_stale(APP, "disk full")
    journal.close()

    assert TagRecord(stale_because="disk full") == _record_after_reopening(tmp_path)
    assert len(notices) == 1
    assert "damaged" in notices[0]
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_journal_is_kept_in_memory_if_the_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notices: list[str] = []

    journal = Journal(tmp_path / "file" / "dir", notices.append)
    journal.set_stale(APP, "disk full")

    assert TagRecord(stale_because="disk full") == journal.record(APP)
    assert len(notices) == 1
    assert "kept in memory" in notices[0]
    journal.close()


def test_full_disk_loses_no_record(journal: Journal, notices: list[str], tmp_path: Path) -> None:
    journal.set_stale(APP, "first")
    pages = sqlite3.connect(tmp_path / JOURNAL_FILE)
    pages.close()
    journal._db.execute("PRAGMA max_page_count = 1")
    for number in range(2000):
        journal.set_stale(Image("a", f"t{number}"), "x" * 200)

    assert journal.record(APP).stale_because == "first"
    assert journal.record(Image("a", "t1999")).stale_because == "x" * 200
    assert len(notices) == 1


def test_file_that_is_damaged_while_in_use_does_not_end_reads(
    journal: Journal, notices: list[str], tmp_path: Path
) -> None:
    for number in range(500):
        journal.set_stale(Image("a", f"t{number}"), "x" * 200)
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (tmp_path / JOURNAL_FILE).stat().st_size
    with (tmp_path / JOURNAL_FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\x99" * (size - 4096))
    journal._db.execute("PRAGMA cache_size = 0")

    assert isinstance(journal.dates(), dict)
    assert len(notices) == 1
