"""Fixtures of all tests. Unit tests need no engine; tests/integration gets its engines from `dev.lab`."""

from __future__ import annotations

import os

import pytest

_FOREIGN = ("DOCKER_", "AUTOREGISTRY_", "KUBECONFIG", "K3D_")


def pytest_xdist_auto_num_workers() -> int:
    """Return at least three: one for the daemon of each image store, one for tests without a daemon."""
    return max(3, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the caller's shell about Docker, clusters and proxies."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
