"""Unit tests need nothing; engines come from `dev.lab` (tests/engines)."""

from __future__ import annotations

import os

import pytest

_FOREIGN = ("DOCKER_", "AUTOREGISTRY_", "KUBECONFIG", "K3D_")


def pytest_xdist_auto_num_workers() -> int:
    """One for each image store's daemon, which both wait a good deal, and one for what needs no daemon."""
    return max(3, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the caller's shell says about Docker, clusters or proxies."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
