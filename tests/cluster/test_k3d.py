"""k3d on PATH: which one is found, and what is said where there is none, or one that is too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoregistry.cluster import k3d
from autoregistry.errors import ClusterRefused


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All of PATH: a folder with nothing in it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _install(path: Path, said: str) -> str:
    program = path / "k3d"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = version ] && echo '{said}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("k3d version v5.0.0", id="the oldest"),
        pytest.param("k3d version v5.10.1\nk3s version v1.31.5-k3s1 (default)", id="a later one"),
        pytest.param("k3d version v10.0.0", id="a much later one"),
        pytest.param("k3d version v5-dev", id="one that was built by hand"),
    ],
)
def test_a_k3d_that_is_new_enough_is_taken(path: Path, said: str) -> None:
    installed = _install(path, said)

    assert installed == k3d.program()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        pytest.param(None, "k3d is not installed", id="missing"),
        pytest.param(
            "k3d version v4.4.8\nk3s version v1.21.3-k3s1 (default)",
            "k3d v4.4.8 is too old, 5.0 is needed",
            id="too old",
        ),
        pytest.param(
            "k3d version v3.10.0", "k3d v3.10.0 is too old, 5.0 is needed", id="much too old"
        ),
    ],
)
def test_no_k3d_that_will_do_leads_to_where_it_is_had(
    path: Path, said: str | None, sentence: str
) -> None:
    if said is not None:
        _install(path, said)

    with pytest.raises(ClusterRefused) as refused:
        k3d.program()

    assert (sentence, "see https://k3d.io/stable/#installation") == (
        refused.value.message,
        refused.value.hint,
    )
