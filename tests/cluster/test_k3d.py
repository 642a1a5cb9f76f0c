"""Finding k3d on PATH, and the errors if it is missing or too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoregistry.cluster import k3d
from autoregistry.errors import ClusterRefused


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _install(path: Path, output: str) -> str:
    program = path / "k3d"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = version ] && echo '{output}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("k3d version v5.0.0", id="the oldest"),
        pytest.param("k3d version v5.10.1\nk3s version v1.31.5-k3s1 (default)", id="a later one"),
        pytest.param("k3d version v10.0.0", id="a much later one"),
        pytest.param("k3d version v5-dev", id="a local build"),
    ],
)
def test_supported_k3d_is_used(path: Path, output: str) -> None:
    installed = _install(path, output)

    assert installed == k3d.program()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        pytest.param(None, "k3d is not installed", id="missing"),
        pytest.param(
            "k3d version v4.4.8\nk3s version v1.21.3-k3s1 (default)",
            "k3d v4.4.8 is too old; 5.0 or later is required",
            id="too old",
        ),
        pytest.param(
            "k3d version v3.10.0",
            "k3d v3.10.0 is too old; 5.0 or later is required",
            id="much too old",
        ),
    ],
)
def test_missing_or_old_k3d_is_refused_with_the_installation_page(
    path: Path, output: str | None, message: str
) -> None:
    if output is not None:
        _install(path, output)

    with pytest.raises(ClusterRefused) as refused:
        k3d.program()

    assert (message, "see https://k3d.io/stable/#installation") == (
        refused.value.message,
        refused.value.hint,
    )
