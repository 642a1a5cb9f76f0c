"""The page in a real browser, with the proxy of the stack and a real k3d cluster of three nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.helpers.browser import browser
from tests.integration.helpers.clusters import MAIN, Clusters
from tests.integration.helpers.serving import build

pytestmark = [
    pytest.mark.engine,
    pytest.mark.parametrize("engine", ["classic"], indirect=True),  # the page is the same
]

MEGABYTES = 8
NODES = tuple(f"k3d-{MAIN}-{node}" for node in ("agent-0", "agent-1", "server-0"))
IN_STEP = ["✓ up to date"] * (2 + len(NODES))
# The text of each store's cell of one image: now, and all texts since the start.
STATES = """(image => Array.from(document.querySelectorAll(
  `tr[data-image="${image}"] .state`), state => state.textContent))"""
NOTE = """(image => {
  window.seenStates = [];
  const note = () => {
    STATES(image).forEach((word, at) => { seenStates[at] = [...new Set([...(seenStates[at] || []), word])]; });
    requestAnimationFrame(note);
  };
  note();
})""".replace("STATES", STATES)


async def test_every_store_changes_from_behind_to_up_to_date_after_a_rebuild(
    clusters: Clusters, tmp_path: Path
) -> None:
    image = "turns/page:dev"
    reference = f"{clusters.name}/{image}"

    async def rebuild(content: str) -> None:
        size = MEGABYTES << 20
        await asyncio.to_thread(build, clusters.engine, reference, content, random_bytes=size)

    await rebuild("version 1")
    for node in NODES:
        pull = ("exec", node, "crictl", "pull", reference)
        await asyncio.to_thread(clusters.engine.cli, *pull)
    async with browser(tmp_path / "browser") as tab:
        await tab.set_window(1280, 900, "light")
        await tab.open(f"http://127.0.0.1:{clusters.port}/_autoregistry/")
        is_in_step = f"JSON.stringify({STATES}('{image}')) === JSON.stringify({IN_STEP})"
        await tab.until(is_in_step, "all stores to have version 1", 60)
        digests = f"""Array.from(document.querySelectorAll('tr[data-image="{image}"] td code'),
          code => code.title)"""
        before = await tab.evaluate(digests)
        await tab.evaluate(f"{NOTE}('{image}')")

        await rebuild("version 2")
        differs = f"{digests}.every((digest, at) => digest !== {before}[at])"
        await tab.until(f"{differs} && {is_in_step}", "all stores to have version 2", 60)

        docker, registry, *nodes = await tab.evaluate("seenStates")
        assert "✓ newer" in docker
        assert {"… being pushed", "↑ behind"} & set(registry)
        assert [("↑ behind" in seen) for seen in nodes] == [True] * len(NODES)
        health = await tab.evaluate("document.querySelector('#health').textContent")
        assert f"cluster {MAIN}3 nodes" in health
        assert "GB free" in health
        assert tab.complaints == []
