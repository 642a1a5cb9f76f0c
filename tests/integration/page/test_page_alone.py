"""The page in a real browser, over made-up stores: every state at once, hostile names, hundreds of rows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dev.lab.npm import axe
from tests.integration.helpers.browser import Tab, browser
from tests.integration.helpers.stage import AT, Stage, every_state, pushing

pytestmark = pytest.mark.engine

LIVE = "document.querySelector('#health').textContent.includes('live')"
COME_BACK = "document.dispatchEvent(new Event('visibilitychange'))"
AXE = """axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
  ({impact, id, nodes}) => [impact, id, nodes.map(node => node.html)]))"""
HACK = "<img src=x onerror=hacked=1><script>hacked=1</script>"

# What a mutation touched: the ids of the tables and lists it is in, and how many of them there were.
WATCH = """(() => {
  window.touched = [];
  const ids = ["images", "pulls", "running"];
  new MutationObserver(records => {
    for (const { target } of records) {
      const within = ids.find(id => document.getElementById(id).contains(target));
      if (within) touched.push(target.closest?.("tr[data-image]")?.dataset.image || within);
    }
  }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
})()"""
TAKE = """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(
  () => done(touched.splice(0)))))"""


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    async with made.serving():
        yield made


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    """A browser; nothing in the page broke, and its policy had nothing to refuse."""
    async with browser(tmp_path / "browser") as made:
        await made.look(1280, 900, "light")
        yield made
        assert made.complaints == []


async def _open(tab: Tab, stage: Stage) -> None:
    await tab.open(stage.url)
    await tab.until(LIVE, "live")
    count = len(stage.said["images"])
    rows = "document.querySelectorAll('#images tbody tr').length"
    await tab.until(f"{rows} === {count}", f"{count} rows")


@pytest.mark.parametrize(("scheme", "back"), [("light", "245, 246, 248"), ("dark", "15, 18, 21")])
async def test_nothing_sticks_out_of_the_window(
    tab: Tab, stage: Stage, scheme: str, back: str
) -> None:
    every_state(stage)
    await _open(tab, stage)
    for width in (1280, 400):
        await tab.look(width, 850, scheme)
        await tab.until(f"innerWidth === {width}", "the width")

        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        shown = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert shown == f"rgb({back})"


async def test_who_cannot_see_or_point_finds_nothing_missing(tab: Tab, stage: Stage) -> None:
    every_state(stage)
    script = axe().read_text()
    await _open(tab, stage)
    stage.tell(pushing("shop/cart:dev", 0, 300_000_000, AT))
    await tab.until("document.querySelector('progress[value]') !== null", "a bar")
    await tab.send("Runtime.evaluate", expression=script)  # which the page's policy does not refuse
    found = {}
    for panel in ("closed", "open"):
        if panel == "open":
            await tab.evaluate("document.querySelector('tr[data-image] button').click()")
            await tab.until("document.querySelector('#detail-next').textContent", "the panel")
        looks = [(1280, "dark"), (400, "light")]
        for width, scheme in looks if panel == "open" else [*looks, (1280, "light"), (400, "dark")]:
            await tab.look(width, 850, scheme)
            await tab.until(f"innerWidth === {width}", "the width")
            found[f"{panel} {width} {scheme}"] = await tab.evaluate(AXE)

    assert {where: told for where, told in found.items() if told} == {}


async def test_the_keyboard_reaches_everything(tab: Tab, stage: Stage) -> None:
    every_state(stage)
    await _open(tab, stage)
    everything = """Array.from((document.querySelector("dialog[open]") || document)
      .querySelectorAll("button, input, [tabindex='0']")).filter(it => it.checkVisibility())"""
    active = """(element => element.id || element.closest("[data-image]")?.dataset.image
      || element.parentElement.id + element.textContent)"""
    for _ in ("the page", "the panel"):
        wanted = set(await tab.evaluate(f"{everything}.map({active})"))
        reached = set()
        for _ in range(3 * len(wanted)):
            await tab.press("Tab", 9)
            reached.add(await tab.evaluate(f"{active}(document.activeElement)"))
            if wanted <= reached:
                break

        assert wanted - reached == set()
        await tab.evaluate("document.querySelector('tr[data-image] button').click()")
        await tab.until("document.querySelector('#detail-next').textContent", "the panel")


async def test_names_with_script_in_them_are_text(tab: Tab, stage: Stage) -> None:
    stage.said["name"] = HACK
    stage.said["health"] = {
        "docker": "ok",
        "backend": HACK,
        "loop": HACK,
        "disk": HACK,
    }
    stage.cluster(HACK, HACK)
    image = f"{HACK}:{HACK}"
    row = stage.image(image, "behind", HACK, "old")
    row["docker"] = row["registry"] = row["nodes"][0]["digest"] = HACK
    failed = stage.pull(image, HACK, 403, sentence=HACK, client=HACK)
    stage.said["pulls"] = [failed]
    await _open(tab, stage)
    refused = {"type": "push-failed", "image": image, "cause": HACK}
    refreshed = {"type": "node-refreshed", "image": image, "node": HACK, "cause": HACK}
    for said in (refused, refreshed, {"type": "notice", "sentence": HACK}):
        stage.tell(said)
        await tab.until(
            "document.querySelector('#news').textContent.includes('<img')", said["type"]
        )
    started = {"type": "push-started", "image": image, "because": HACK, "at": AT}
    stage.said["running"] = [started]
    stage.tell(started)
    stage.tell(stage.pull(image, HACK, 404, sentence=HACK, client=HACK))
    await tab.until("document.querySelector('#running').textContent.includes('<img')", "the push")
    await tab.evaluate("document.querySelector('tr[data-image] button').click()")
    await tab.until("document.querySelector('#detail-next').textContent", "the panel")

    assert await tab.evaluate("typeof hacked") == "undefined"
    assert await tab.evaluate("document.querySelectorAll('img, script').length") == 1
    places = ["#name", "#health", "#banner", "#images thead", "#images tbody", "#pulls tbody"]
    places += ["#running", "#detail-title", "#detail-facts", "#detail-command", "#detail-help"]
    script = f"{json.dumps(places)}.filter(at => !document.querySelector(at).textContent"
    assert await tab.evaluate(f"{script}.includes({json.dumps(HACK)}))") == []


@pytest.mark.parametrize("count", [20, 500])
async def test_an_event_touches_its_own_row_however_many_there_are(
    tab: Tab, stage: Stage, count: int
) -> None:
    stage.cluster("dev", "server-0", "agent-0", "agent-1")
    for number in range(count):
        stage.image(f"team/app-{number:03}:dev", "in-step", "same", "new", "new", "new")
    image, other = (f"team/app-{number:03}:dev" for number in (7, 11))
    stage.said["pulls"] = [stage.pull(image, "up-to-date") for _ in range(200)][::-1]
    await _open(tab, stage)
    await tab.until("document.querySelectorAll('#pulls tbody tr').length === 200", "200 pulls")
    await tab.evaluate(WATCH)

    async def touched(**said: Any) -> list[str]:
        """Tell it, wait until it shows, and what was touched for it."""
        stage.tell(said)
        await tab.until("touched.length", str(said))
        return list(await tab.evaluate(TAKE))

    started = await touched(type="push-started", image=image, because="it differs", at=AT)
    moved = await touched(**pushing(image, 10, 100, AT))
    pulled = await touched(**stage.pull(other, "up-to-date"))
    row = next(row for row in stage.said["images"] if row["image"] == other)
    row["state"], row["because"] = "behind", "it differs"
    stage.said["running"] = [{"image": image, "because": "it differs", "started_at": AT}]
    stage.said["pulls"] = [stage.pull(other, "up-to-date"), *stage.said["pulls"]][:200]
    await tab.evaluate(COME_BACK)
    await tab.until(f"touched.includes('{other}')", "the row that changed")
    looked = await tab.evaluate(TAKE)

    assert set(started) == {image, "running"}
    assert set(moved) == {"running"}
    assert set(pulled) == {"pulls"}
    assert set(looked) - {"pulls"} == {other}
    assert max(map(len, (started, moved, pulled, looked))) <= 24


async def test_what_is_not_in_step_can_be_had_alone(tab: Tab, stage: Stage) -> None:
    every_state(stage)
    await _open(tab, stage)
    shown = "Array.from(document.querySelectorAll('#images tbody tr:not([hidden])'), row => row.dataset.image)"

    await tab.evaluate("document.querySelector('#only').click()")
    await tab.until(f"{shown}.length === 5", "five")
    await tab.evaluate("document.querySelector('#filter').focus()")
    await tab.send("Input.insertText", text="jobs")

    await tab.until(f"{shown}.join() === 'shop/jobs:dev'", "the one that is filtered for")
    assert await tab.evaluate("document.title") == "(5) autoregistry"


async def test_what_was_known_stays_when_the_registry_goes_away(tab: Tab, stage: Stage) -> None:
    every_state(stage)
    await _open(tab, stage)
    stage.said["health"]["backend"] = "the registry at http://backend:5000 does not answer"
    stage.said |= {"images": [], "is_compared": False}

    await tab.evaluate(COME_BACK)
    banner = await tab.until("document.querySelector('#banner:not([hidden])')?.textContent", "it")

    assert banner.startswith("The registry at http://backend:5000 does not answer")
    assert "What is shown here is from" in banner
    assert await tab.evaluate("document.querySelectorAll('#images tbody tr').length") == 8
