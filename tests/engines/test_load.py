"""Hundreds of clients that stall take neither memory nor speed from the others."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.load import upload
from tests.engines.serving import Serve, wait_for

pytestmark = pytest.mark.engine

MIB = 1 << 20
STALLED_READERS = 125
SLOW_SENDERS = 125
IDLE = 250
PUSHES = 10
# A connection that kept its bytes would show as hundreds; measured were 88.
MEMORY = 100 * MIB


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _seconds(serve: Serve, count: int) -> list[float]:
    took = []
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for _ in range(count):
            began = time.perf_counter()
            (await client.get(f"{serve.url}/v2/")).raise_for_status()
            took.append(time.perf_counter() - began)
    return sorted(took)


async def _under_load(serve: Serve, digest: str) -> list[float]:
    writers = []
    get = f"GET /v2/load/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    put = "PUT /v2/load/app/blobs/uploads/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nx"
    for text in [get] * STALLED_READERS + [put] * SLOW_SENDERS + [""] * IDLE:
        _, writer = await asyncio.open_connection("127.0.0.1", serve.port, limit=1024)
        writer.write(text.encode())
        writers.append(writer)
    blocks = [os.urandom(MIB) for _ in range(PUSHES)]
    pushes = [
        asyncio.create_task(asyncio.to_thread(upload, serve.port, "load/app", block, 8))
        for block in blocks
    ]
    took = await _seconds(serve, 100)
    await asyncio.gather(*pushes)
    for writer in writers:
        writer.transport.abort()
    return took


def test_stalled_clients_and_pushes_cost_the_others_little(serve: Serve) -> None:
    block = os.urandom(MIB)
    whole = hashlib.sha256(block * 32).hexdigest()
    upload(serve.port, "load/app", block, 32)
    asyncio.run(_seconds(serve, 100))
    descriptors = _descriptors(serve.pid)

    took = asyncio.run(_under_load(serve, f"sha256:{whole}"))

    print(f"p99 {took[98]:.3f} s, {serve.resident_bytes() / MIB:.0f} MB")
    assert serve.resident_bytes() < MEMORY
    wait_for(lambda: _descriptors(serve.pid) <= descriptors + 12, "descriptors let go of", 120)
