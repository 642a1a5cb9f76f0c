"""Whoever is killed, at whatever moment: afterwards the three stores agree, and nothing is left over.

`make soak` lives through a hundred moments with each image store; the suite through a few.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dev import lab
from dev.lab import Docker
from tests.engines.serving import serving
from tests.engines.soak import Soak, moments

pytestmark = pytest.mark.engine

# Read now: tests see no AUTOREGISTRY_* of the shell.
COUNT = int(os.environ.get("AUTOREGISTRY_SOAK_MOMENTS", "6"))
SEED = os.environ.get("AUTOREGISTRY_SOAK_SEED") or f"{random.randrange(16**6):06x}"  # noqa: S311


def test_killed_at_any_moment_everything_agrees_afterwards(
    disturbing: Docker, tmp_path: Path
) -> None:
    registry = lab.start_registry(tmp_path / "registry")
    most_docker = 0 if not disturbing.owned else 1 if COUNT < 50 else COUNT
    print(f"AUTOREGISTRY_SOAK_SEED={SEED} AUTOREGISTRY_SOAK_MOMENTS={COUNT}")
    with serving(disturbing, registry, tmp_path / "state", "--no-refresh") as serve:
        soak = Soak(disturbing, registry, serve, tmp_path)
        soak.warm_up()
        for moment in moments(f"{SEED} {disturbing.store}", COUNT, most_docker):
            print(moment, flush=True)
            soak.live_through(moment)
        soak.nothing_is_open()
    registry.stop()
