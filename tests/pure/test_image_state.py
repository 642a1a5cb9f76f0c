"""The states of an image: each has a next pull, a place on the page and a row in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoregistry.decision import Verdict
from autoregistry.image_state import STATE_OF_VERDICT, ImageState, next_pull

ROOT = Path(__file__).parents[2]


def test_each_verdict_has_a_state() -> None:
    assert set(STATE_OF_VERDICT) == set(Verdict)


@pytest.mark.parametrize("state", ImageState)
def test_each_state_describes_its_next_pull(state: ImageState) -> None:
    sentence, command = next_pull(state, "app:dev", "localhost:5000")

    assert "pull" in sentence
    assert "{" not in sentence + command


@pytest.mark.parametrize("state", ImageState)
def test_each_state_is_on_the_page_and_in_the_documentation(state: ImageState) -> None:
    page = (ROOT / "autoregistry" / "proxy" / "api" / "page.html").read_text()
    documentation = (ROOT / "docs" / "http.md").read_text()

    assert f'"{state}": [[' in page
    assert f"| `{state}` |" in documentation
