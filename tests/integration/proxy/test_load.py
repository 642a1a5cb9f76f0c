"""Hundreds of stalled clients cost the others neither memory nor speed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from benchmarks.crowd import IDLE, PUSHES, SLOW_SENDERS, STALLED_READERS, crowded
from benchmarks.load import p99, upload
from tests.integration.helpers.serving import Serve, wait_for

pytestmark = pytest.mark.engine

MIB = 1 << 20
# Connections that keep their bytes would need hundreds; 88 MiB were measured.
MEMORY = 100 * MIB


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_stalled_clients_and_pushes_cost_the_others_little(serve: Serve) -> None:
    block = os.urandom(MIB)
    digest = f"sha256:{hashlib.sha256(block * 32).hexdigest()}"
    upload(serve.port, "bench/blob", block, 32, digest=digest)
    alone = p99(serve.port, 100)
    descriptors = _descriptors(serve.pid)

    with crowded(serve.port, digest):
        crowd = p99(serve.port, 100)
        connections = _descriptors(serve.pid) - descriptors

    print(
        f"p99 {alone:.4f} s alone, {crowd:.4f} s in the crowd, {serve.resident_bytes() / MIB:.0f} MB"
    )
    assert connections >= STALLED_READERS + SLOW_SENDERS + IDLE
    assert serve.resident_bytes() < MEMORY
    # Some connections to the registry stay open for half a minute.
    kept = descriptors + 2 * PUSHES
    wait_for(lambda: _descriptors(serve.pid) <= kept, "descriptors to be closed", 120)
