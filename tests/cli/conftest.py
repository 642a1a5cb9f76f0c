"""Commands over a Docker Engine in memory: width 80, no colour, no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from autoregistry.cli import program
from tests.fakes.engine import FakeEngine

Type = Callable[..., Result]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine().serving() as serving:
        yield serving


@pytest.fixture
def typed(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command to that daemon."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)

    def typed(*words: str, input: str = "") -> Result:
        return CliRunner().invoke(program, words, input=input)

    return typed
