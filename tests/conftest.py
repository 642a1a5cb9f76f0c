"""Unit tests need nothing; engines come from `dev.lab` (tests/engines)."""

from __future__ import annotations

import os

import pytest

_FOREIGN = ("DOCKER_", "AUTOREGISTRY_", "KUBECONFIG", "K3D_")


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the caller's shell says about Docker, clusters or proxies."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
