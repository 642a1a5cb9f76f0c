"""Commands run against a Docker Engine in memory: width 80, no color, no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from autoregistry.cli import program
from tests.fakes.engine import FakeEngine
from tests.helpers.commands import Type
from tests.helpers.event_loop import ThreadedLoop


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setenv("HOME", str(tmp_path))  # of the lock of `up`
    with FakeEngine().serving() as serving:
        yield serving


@pytest.fixture
def typed(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Return a function that runs a command against that daemon."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)

    def typed(*arguments: str, input: str = "") -> Result:
        return CliRunner().invoke(program, arguments, input=input)

    return typed


@pytest.fixture
def background() -> Iterator[ThreadedLoop]:
    loop = ThreadedLoop()
    yield loop
    loop.close()
