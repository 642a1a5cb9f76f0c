"""The stack of `up` in each Docker daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev import lab
from dev.lab import Docker
from tests.integration.helpers.command_line import CommandLine, exclusive_stack


@pytest.fixture(scope="module")
def command_line(engine: Docker) -> Iterator[CommandLine]:
    """The command line of a daemon with the two base images and without a stack."""
    for name in ("registry:2", "python:3.13-slim"):
        lab.image(engine, name)
    with exclusive_stack(engine):
        yield CommandLine(engine)


@pytest.fixture
def stack(command_line: CommandLine) -> CommandLine:
    """The same, with the stack up."""
    command_line.ok("up", "--port", str(command_line.port))
    return command_line
