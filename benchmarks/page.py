"""`python -m benchmarks.page`: the longest frame of the page with 500 images and 1,000 pulls, in headless Chromium.

A task is all work of the page's main thread for one frame: script, style, layout, paint. The figures are the processor
time of that thread, from the browser's trace, because any frame is long on a busy machine. An idle phase is measured
for comparison.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dev.browser import Tab, open_browser
from tests.integration.helpers.stage import AT, Stage, push_progress

IMAGES = 500
PULLS = 1000
RESULTS = Path(__file__).parent / "results"
SHOW_PAGE = "document.dispatchEvent(new Event('visibilitychange'))"
GAPS = """(() => {
  window.gaps = [];
  let last = performance.now();
  const tick = now => { gaps.push(now - last); last = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
})()"""
TRACED = "toplevel,devtools.timeline"
DATA, DONE = "Tracing.dataCollected", "Tracing.tracingComplete"
PARTS = {
    "script": ("FunctionCall", "EvaluateScript"),
    "style": ("UpdateLayoutTree",),
    "layout": ("Layout",),
}


async def _phase(tab: Tab, work: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Return the processor time of the page's main thread during `work`, in milliseconds."""
    await tab.evaluate("gaps.length = 0")
    tab.events = {DATA: asyncio.Queue(), DONE: asyncio.Queue()}
    await tab.send("Tracing.start", traceConfig={"includedCategories": TRACED.split(",")})
    await work()
    gap = await tab.evaluate("Math.max(...gaps)")
    await tab.send("Tracing.end")
    await tab.events[DONE].get()
    events = []
    while not tab.events[DATA].empty():
        events += tab.events[DATA].get_nowait()["value"]
    main = _main_thread(events)
    own = [e for e in events if (e["pid"], e["tid"]) == main and "tdur" in e]
    tasks = [e["tdur"] / 1000 for e in own if e["name"].endswith("RunTask")]
    parts = {
        part: sum(e["tdur"] for e in own if e["name"] in names) / 1000
        for part, names in PARTS.items()
    }
    return {
        "longest task": max(tasks),
        "all tasks": sum(tasks),
        **parts,
        "longest gap (clock)": gap,
    }


def _main_thread(events: list[dict[str, Any]]) -> tuple[int, int]:
    """Return the process and thread that draw frames."""
    threads = [(e["pid"], e["tid"]) for e in events if e["name"] == "FireAnimationFrame"]
    return max(set(threads), key=threads.count)


async def measure() -> dict[str, dict[str, float]]:
    """Return the figures of each phase."""
    stage, figures = Stage(), {}
    stage.cluster("dev", "server-0", "agent-0", "agent-1")
    images = [f"team/app-{number:03}:dev" for number in range(IMAGES)]
    for number, image in enumerate(images):
        state, held = ("in-step", "new") if number % 10 else ("behind", "old")
        stage.image(image, state, "Docker's image differs from the registry's", held, held, "")

    async def nothing() -> None:
        await asyncio.sleep(2)

    async def shown() -> None:
        await tab.evaluate(SHOW_PAGE)
        rows = "document.querySelectorAll('#images tbody tr').length"
        await tab.until(f"{rows} === {IMAGES}", "all rows")
        await asyncio.sleep(0.5)

    async def pulls() -> None:
        for number in range(PULLS):
            stage.send(stage.pull(images[number % IMAGES], "up-to-date"))
            if number % 10 == 0:
                await asyncio.sleep(0.02)
        newest = images[(PULLS - 1) % IMAGES]
        first = "document.querySelector('#pulls tbody tr')?.textContent"
        await tab.until(f"{first}.includes('{newest}')", "the last pull")

    async def pushes() -> None:
        for percent in range(100):
            for image in images[:4]:
                stage.send(push_progress(image, percent, 100, AT + percent / 10))
            await asyncio.sleep(0.02)

    async def rebuilt() -> None:
        for row in stage.status["images"]:
            row["state"] = "in-step" if row["state"] == "behind" else "behind"
        await tab.evaluate(SHOW_PAGE)
        await tab.until("document.title === '(450) autoregistry'", "all rows to change")
        await asyncio.sleep(0.5)

    async def filtered() -> None:
        for word in ("app-1", "app-12", "app-123", "", "app", ""):
            script = f"filter.value = '{word}'; filter.dispatchEvent(new Event('input'))"
            await tab.evaluate(script)
            await asyncio.sleep(0.1)

    with tempfile.TemporaryDirectory() as home:
        async with open_browser(Path(home) / "browser") as tab, stage.serving():
            await tab.set_window(1280, 900, "light")
            rows, stage.status["images"] = stage.status["images"], []
            await tab.open(stage.url)
            await tab.until(
                "document.querySelector('#health').textContent.includes('live')", "live"
            )
            await tab.evaluate(GAPS)
            figures["nothing"] = await _phase(tab, nothing)
            stage.status["images"] = rows
            figures[f"{IMAGES} images appear"] = await _phase(tab, shown)
            figures[f"{PULLS:,} pulls arrive"] = await _phase(tab, pulls)
            figures["four pushes move"] = await _phase(tab, pushes)
            figures["every row changes"] = await _phase(tab, rebuilt)
            figures["the filter is typed"] = await _phase(tab, filtered)
    return figures


def table(phases: dict[str, dict[str, float]]) -> str:
    names = list(phases["nothing"])
    lines = [f"| ms | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for phase, figures in phases.items():
        cells = (f"{value:.1f}" for value in figures.values())
        lines.append(f"| {phase} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    figures = asyncio.run(measure())
    RESULTS.mkdir(exist_ok=True)
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    text = f"# The page, {time.strftime('%Y-%m-%d')}\n\n{load}\n\n{table(figures)}"
    (RESULTS / "page.md").write_text(text)
    (RESULTS / "page.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
