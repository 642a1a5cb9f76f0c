"""The progress of pushes and pulls, from the lines of Docker's streams."""

from __future__ import annotations

from typing import Any

import pytest

from autoregistry.engine.streams import Progress


def _line(status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"id": "a", "status": status, "progressDetail": {"current": current, "total": total}}


@pytest.mark.parametrize(
    ("moving", "done"),
    [("Pushing", "Pushed"), ("Downloading", "Download complete"), ("Downloading", "Pull complete")],
)
def test_layer_counts_its_bytes_until_it_is_done(moving: str, done: str) -> None:
    progress = Progress()

    assert progress.read(_line(moving, 5, 10))
    assert (progress.done_bytes, progress.total_bytes, progress.done_layers) == (5, 10, 0)
    assert progress.read({"id": "a", "status": done})
    assert (progress.done_bytes, progress.total_bytes, progress.done_layers) == (10, 10, 1)
    assert progress.total_layers == 1


def test_layer_whose_size_was_underestimated_grows() -> None:
    progress = Progress()
    progress.read(_line("Pushing", 5, 10))
    progress.read(_line("Pushing", 12, 10))

    assert (progress.done_bytes, progress.total_bytes) == (12, 12)


def test_layer_that_is_not_transferred_has_no_bytes() -> None:
    progress = Progress()

    assert progress.read({"id": "b", "status": "Pushed"})
    assert (progress.total_layers, progress.done_layers, progress.total_bytes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("line", "is_progress"),
    [
        ({"status": "The push refers to repository [localhost:5000/app]"}, False),
        ({"id": "a", "status": "Preparing"}, False),
        ({"id": "a", "status": "Retrying in 5 seconds"}, True),
    ],
    ids=["no layer", "preparing", "retrying"],
)
def test_other_lines_change_nothing(line: dict[str, Any], *, is_progress: bool) -> None:
    progress = Progress()

    assert progress.read(line) is is_progress
    assert progress == Progress()
