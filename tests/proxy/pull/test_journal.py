"""The journal survives whatever happens to its file, and never stops the registry."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoregistry.decision import Base, TagRecord
from autoregistry.names import Image
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.state_file import STATE_FILE

APP = Image("shop/api", "dev")
OURS, THEIRS = "sha256:ours", "sha256:theirs"


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def journal(tmp_path: Path, notices: list[str]) -> Iterator[Journal]:
    journal = Journal(tmp_path, notices.append)
    yield journal
    journal.close()


def _copy(directory: Path) -> Path:
    """Copy the folder as a process that is killed now leaves it: the running journal has it locked."""
    return Path(shutil.copytree(directory, Path(tempfile.mkdtemp(dir=directory.parent)) / "copy"))


def _reopened(directory: Path, image: Image = APP) -> TagRecord:
    journal = Journal(_copy(directory), print)
    try:
        return journal.record(image)
    finally:
        journal.close()


def _base(record: TagRecord) -> tuple[str | None, str, bool]:
    assert record.base is not None
    return record.base.docker_identity, record.base.registry_digest, bool(record.base.manual_at)


def _until_written(
    journal: Journal, change: Callable[[sqlite3.Connection], None] = lambda _: None
) -> None:
    """Let the journal try again, as the proxy does every second."""
    deadline = time.monotonic() + 10
    while journal.file.failure:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        if journal.file.write(change):
            journal.save()


def test_new_tag_is_unknown(journal: Journal) -> None:
    assert TagRecord() == journal.record(APP)


def test_manual_push_is_kept(journal: Journal, tmp_path: Path) -> None:
    journal.set_pushed(APP, OURS, THEIRS, manually=True)

    assert _base(_reopened(tmp_path)) == (OURS, THEIRS, True)


def test_own_push_replaces_a_manual_push(journal: Journal) -> None:
    journal.set_pushed(APP, OURS, THEIRS, manually=True)
    journal.set_pushed(APP, OURS, OURS, manually=False)

    assert TagRecord(Base(OURS, OURS)) == journal.record(APP)


def test_report_is_kept_until_both_sides_agree(journal: Journal, tmp_path: Path) -> None:
    journal.set_reported(APP, 100.0)
    reported = _reopened(tmp_path)
    journal.set_found(APP, OURS, OURS, is_same=True)

    assert reported == TagRecord(reported_at=100.0)
    assert journal.record(APP) == TagRecord(Base(OURS, OURS))


def test_report_that_is_older_than_a_manual_push_changes_nothing(journal: Journal) -> None:
    before = time.time() - 1
    journal.set_pushed(APP, OURS, THEIRS, manually=True)
    journal.set_reported(APP, before)
    older = journal.record(APP).reported_at
    journal.set_reported(APP, time.time() + 1)

    assert older is None
    assert journal.record(APP).reported_at is not None


def test_reported_id_is_kept_until_its_names_are_known(journal: Journal, tmp_path: Path) -> None:
    journal.add_reported_id(OURS, 100.0)
    again = Journal(_copy(tmp_path), print)
    kept = again.reported_ids
    again.close()
    journal.remove_reported_id(OURS)

    assert kept == {OURS: 100.0}
    assert journal.reported_ids == {}


def test_stale_tag_is_kept_until_it_is_up_to_date(journal: Journal, tmp_path: Path) -> None:
    journal.set_stale(APP, "disk full")
    stale = _reopened(tmp_path)
    journal.clear_stale(APP)

    assert TagRecord(stale_because="disk full") == stale
    assert TagRecord() == journal.record(APP)


def test_pulls_and_pushes_are_dated(journal: Journal) -> None:
    journal.set_pulled(APP)
    journal.set_pushed(APP, OURS, OURS, manually=False)
    pushed_at, pulled_at = journal.dates(APP)

    assert pushed_at is not None
    assert pulled_at is not None


def test_notes_are_kept(journal: Journal) -> None:
    journal.set_note("last-event", "17")

    assert (journal.note("last-event"), journal.note("other")) == ("17", None)


def test_what_was_written_survives_kill_9(tmp_path: Path) -> None:
    script = (
        "import os, signal, pathlib\n"
        "from autoregistry.proxy.pull.journal import Journal\n"
        "from autoregistry.names import Image\n"
        f"j = Journal(pathlib.Path({str(tmp_path)!r}), print)\n"
        f"j.set_pushed(Image('shop/api', 'dev'), {OURS!r}, {THEIRS!r}, manually=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert _base(_reopened(tmp_path)) == (OURS, THEIRS, True)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"not a database at all" * 100, id="another file"),
        pytest.param(b"SQLite format 3\x00" + b"\x99" * 4096, id="a broken one"),
    ],
)
def test_damaged_file_is_renamed_with_one_notice(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / STATE_FILE).write_bytes(damage)
    notices: list[str] = []

    journal = Journal(tmp_path, notices.append)
    journal.set_stale(APP, "disk full")
    journal.close()

    assert TagRecord(stale_because="disk full") == _reopened(tmp_path)
    assert len(notices) == 1
    assert "damaged" in notices[0]
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1


def test_file_that_is_damaged_while_in_use_is_written_again(
    journal: Journal, notices: list[str], tmp_path: Path
) -> None:
    for number in range(500):
        journal.set_stale(Image("a", f"t{number}"), "x" * 200)
    journal.file.write(lambda db: None)
    checkpoint = sqlite3.connect(tmp_path / STATE_FILE)
    checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    checkpoint.close()
    size = (tmp_path / STATE_FILE).stat().st_size
    with (tmp_path / STATE_FILE).open("r+b") as file:
        file.write(b"\x99" * size)
    for number in range(500, 600):
        journal.set_stale(Image("a", f"t{number}"), "x" * 200)
    journal.save()

    assert len(notices) == 1
    assert _reopened(tmp_path, Image("a", "t0")).stale_because == "x" * 200


def test_what_could_not_be_written_is_written_as_soon_as_that_works(tmp_path: Path) -> None:
    """The state folder's place is taken by a file for a while."""
    (tmp_path / "state").write_text("")
    notices: list[str] = []
    journal = Journal(tmp_path / "state" / "dir", notices.append)
    journal.set_stale(APP, "disk full")
    failure = journal.file.failure
    (tmp_path / "state").unlink()
    _until_written(journal)

    assert "Not a directory" in failure
    assert journal.file.failure == ""
    assert TagRecord(stale_because="disk full") == _reopened(tmp_path / "state" / "dir")
    assert len(notices) == 2
    journal.close()


def test_full_disk_loses_nothing(journal: Journal, notices: list[str], tmp_path: Path) -> None:
    journal.set_stale(APP, "first")

    def limit(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1")

    def unlimit(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1000000")

    journal.file.write(limit)
    for number in range(2000):
        journal.set_stale(Image("a", f"t{number}"), "x" * 200)
    failure = journal.file.failure
    _until_written(journal, unlimit)

    assert "full" in failure
    assert journal.file.failure == ""
    assert len(notices) == 2
    assert _reopened(tmp_path).stale_because == "first"
    assert _reopened(tmp_path, Image("a", "t1999")).stale_because == "x" * 200


def test_lock_of_another_process_is_not_waited_for(journal: Journal, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / STATE_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    journal.set_stale(APP, "disk full")
    failure = journal.file.failure
    other.execute("COMMIT")
    other.close()
    _until_written(journal)

    assert "locked" in failure
    assert _reopened(tmp_path).stale_because == "disk full"


def test_deleted_folder_is_made_again_with_everything_in_it(
    journal: Journal, tmp_path: Path
) -> None:
    journal.set_stale(APP, "disk full")
    shutil.rmtree(tmp_path)
    journal.save()

    assert TagRecord(stale_because="disk full") == _reopened(tmp_path)
