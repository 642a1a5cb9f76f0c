"""The Docker Engine in memory for the tests of `up`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.engine import FakeEngine


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("HOME", str(tmp_path))  # of the lock of `up`
    with FakeEngine().serving() as serving:
        yield serving
