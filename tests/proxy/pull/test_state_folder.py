"""Each registry has its own state folder, which one process at a time uses (review 6)."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoregistry.errors import StateInUse
from autoregistry.names import Image
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.state_file import STATE_FILE, StateFolder, folder_for

APP = Image("shop/api", "dev")
OURS = "sha256:ours"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "state")
    yield folder
    folder.release()


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("localhost:5000", "localhost_5000"),
        ("registry.test:443", "registry.test_443"),
        ("[::1]:5000", "___1__5000"),
        ("../../etc:1", ".._.._etc_1"),
    ],
)
def test_folder_of_a_registry_has_its_name(registry: str, name: str, tmp_path: Path) -> None:
    assert tmp_path / name == folder_for(registry, tmp_path)


def test_folder_in_use_is_refused_with_the_other_process(folder: StateFolder) -> None:
    folder.hold()
    second = StateFolder(folder.path)
    with pytest.raises(StateInUse, match=rf"pid {os.getpid()} on .*, started \d{{4}}-") as refused:
        second.hold()
    folder.release()
    second.hold()
    second.release()

    assert str(folder.path) in refused.value.message
    assert refused.value.hint == "autoregistry serve --state DIR"


def test_lock_ends_with_its_process(folder: StateFolder) -> None:
    script = (
        "import os, pathlib, signal\n"
        "from autoregistry.proxy.pull.state_file import StateFolder\n"
        f"StateFolder(pathlib.Path({str(folder.path)!r})).hold()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False)

    folder.hold()

    assert ended.returncode == -signal.SIGKILL


def test_folder_that_was_deleted_is_locked_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state", print)
    shutil.rmtree(tmp_path / "state")
    journal.set_stale(APP, "disk full")

    with pytest.raises(StateInUse):
        Journal(tmp_path / "state", print)
    journal.close()


def test_folder_that_another_process_created_again_is_left_to_it(tmp_path: Path) -> None:
    notices: list[str] = []
    first = Journal(tmp_path / "state", notices.append)
    shutil.rmtree(tmp_path / "state")
    second = Journal(tmp_path / "state", print)
    first.set_stale(APP, "disk full")
    failure = first.file.failure
    second.set_stale(APP, "of the second")
    first.close()
    second.close()
    third = Journal(tmp_path / "state", print)
    record = third.record(APP)
    third.close()

    assert f"pid {os.getpid()}" in failure
    assert len(notices) == 1
    assert record.stale_because == "of the second"


def test_folder_that_cannot_be_created_does_not_stop_the_registry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "state", lambda _: None)
    journal.set_stale(APP, "disk full")

    assert journal.file.failure
    assert journal.record(APP).stale_because == "disk full"


def test_file_system_without_locks_is_used_without_one(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int, __: int) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    folder.hold()

    assert sqlite3.connect(folder.path / STATE_FILE)
