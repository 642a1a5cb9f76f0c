"""Many listeners to the event stream: one that does not read costs neither memory nor the others anything."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from dev import lab
from tests.integration.helpers.serving import NODE_ACCEPT, Serve, serving, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("containerd")]

MIB = 1 << 20
LISTENERS = 49
PULLS = 400
# A listener that reads costs a few buffers; 3 to 6 MB were measured in all.
GROWTH = 16 * MIB
REQUEST = b"GET /_autoregistry/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`autoregistry serve` with one image store: the store makes no difference here."""
    with ExitStack() as stack:
        try:
            docker = lab.docker("containerd")
        except lab.LabError as exc:
            pytest.skip(str(exc))
        registry = lab.start_registry(tmp_path_factory.mktemp("registry"))
        stack.callback(registry.stop)
        yield stack.enter_context(
            serving(docker, registry, tmp_path_factory.mktemp("state"), "--no-watch")
        )


async def _pull_often(serve: Serve, count: int) -> list[float]:
    took = []
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        for number in range(count):
            began = time.perf_counter()
            await client.head(
                f"{serve.url}/v2/none/of-it/manifests/t{number}", headers={"Accept": NODE_ACCEPT}
            )
            took.append(time.perf_counter() - began)
    return sorted(took)


async def _listen(serve: Serve, answers: int, after: str = "") -> list[str]:
    """Return the lines of the stream until so many pulls were answered."""
    seen: list[str] = []
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
        client.stream("GET", f"{serve.url}/_autoregistry/events?after={after}") as stream,
    ):
        async for line in stream.aiter_lines():
            seen.append(line)
            answers -= '"type": "pull-answered"' in line
            if not answers:
                break
    return seen


def _listeners(serve: Serve) -> float:
    lines = serve.get("/_autoregistry/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("autoregistry_listen"))


async def test_listener_that_does_not_read_costs_the_fifty_others_nothing(proxy: Serve) -> None:
    alone = await _pull_often(proxy, 200)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", proxy.port))
        stalled.sendall(REQUEST)
        listening = [asyncio.create_task(_listen(proxy, PULLS)) for _ in range(LISTENERS)]
        await asyncio.to_thread(wait_for, lambda: _listeners(proxy) > LISTENERS, "all listeners")
        before = proxy.resident_bytes()

        took = await _pull_often(proxy, PULLS)
        received = await asyncio.gather(*listening)

        grown = proxy.resident_bytes() - before
    print(
        f"grown by {grown / MIB:.1f} MB; median of a pull {took[PULLS // 2] * 1000:.1f} ms,"
        f" {alone[100] * 1000:.1f} ms without listeners"
    )
    assert {sum("pull-answered" in line for line in lines) for lines in received} == {PULLS}
    assert grown < GROWTH


async def test_reconnecting_listener_receives_all_missed_events(proxy: Serve) -> None:
    listening = asyncio.create_task(_listen(proxy, 1))
    await asyncio.to_thread(wait_for, lambda: _listeners(proxy), "the listener")
    await _pull_often(proxy, 1)
    last = next(line for line in await listening if line.startswith("id: ")).removeprefix("id: ")
    await _pull_often(proxy, 100)
    proxy.stop()
    proxy.start()

    missed = await asyncio.wait_for(_listen(proxy, 100, last), 10)

    assert sum("pull-answered" in line for line in missed) == 100
