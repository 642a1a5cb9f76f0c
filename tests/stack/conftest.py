"""The Docker Engine in memory for the tests of `up`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.engine import FakeEngine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine().serving() as serving:
        yield serving
