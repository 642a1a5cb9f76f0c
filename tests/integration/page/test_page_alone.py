"""The page in a real browser, with invented stores: every state at once, hostile names, hundreds of rows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dev.browser import Tab
from dev.lab.npm import axe
from tests.integration.helpers.browser import browser
from tests.integration.helpers.stage import AT, Stage, push_progress, show_every_state

pytestmark = pytest.mark.engine

LIVE = "document.querySelector('#health').textContent.includes('live')"
SHOW_PAGE = "document.dispatchEvent(new Event('visibilitychange'))"
AXE = """axe.run(document, {resultTypes: ["violations"]}).then(result => result.violations.map(
  ({impact, id, nodes}) => [impact, id, nodes.map(node => node.html)]))"""
HACK = "<img src=x onerror=hacked=1><script>hacked=1</script>"

# Records what each mutation changed: the image of its row, or the id of its table or list.
RECORD_CHANGES = """(() => {
  window.changed = [];
  const ids = ["images", "pulls", "running"];
  new MutationObserver(records => {
    for (const { target } of records) {
      const within = ids.find(id => document.getElementById(id).contains(target));
      if (within) changed.push(target.closest?.("tr[data-image]")?.dataset.image || within);
    }
  }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
})()"""
TAKE_CHANGES = """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(
  () => done(changed.splice(0)))))"""


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    served = Stage()
    async with served.serving():
        yield served


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    """A browser; afterwards there must be no script errors and no violations of the page's policy."""
    async with browser(tmp_path / "browser") as opened:
        await opened.set_window(1280, 900, "light")
        yield opened
        assert opened.complaints == []


async def _open(tab: Tab, stage: Stage) -> None:
    await tab.open(stage.url)
    await tab.until(LIVE, "live")
    count = len(stage.status["images"])
    rows = "document.querySelectorAll('#images tbody tr').length"
    await tab.until(f"{rows} === {count}", f"{count} rows")


@pytest.mark.parametrize(
    ("scheme", "background"), [("light", "245, 246, 248"), ("dark", "15, 18, 21")]
)
async def test_page_is_not_wider_than_the_window(
    tab: Tab, stage: Stage, scheme: str, background: str
) -> None:
    show_every_state(stage)
    await _open(tab, stage)
    for width in (1280, 400):
        await tab.set_window(width, 850, scheme)
        await tab.until(f"innerWidth === {width}", "the width")

        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        color = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert color == f"rgb({background})"


async def test_page_has_no_accessibility_violations(tab: Tab, stage: Stage) -> None:
    show_every_state(stage)
    script = axe().read_text()
    await _open(tab, stage)
    stage.send(push_progress("shop/cart:dev", 0, 300_000_000, AT))
    await tab.until("document.querySelector('progress[value]') !== null", "a bar")
    await tab.send("Runtime.evaluate", expression=script)  # allowed by the page's policy
    violations = {}
    for panel in ("closed", "open"):
        if panel == "open":
            await tab.evaluate("document.querySelector('tr[data-image] button').click()")
            await tab.until("document.querySelector('#detail-next').textContent", "the panel")
        views = [(1280, "dark"), (400, "light")]
        for width, scheme in views if panel == "open" else [*views, (1280, "light"), (400, "dark")]:
            await tab.set_window(width, 850, scheme)
            await tab.until(f"innerWidth === {width}", "the width")
            violations[f"{panel} {width} {scheme}"] = await tab.evaluate(AXE)

    assert {view: rules for view, rules in violations.items() if rules} == {}


async def test_keyboard_reaches_every_control(tab: Tab, stage: Stage) -> None:
    show_every_state(stage)
    await _open(tab, stage)
    controls = """Array.from((document.querySelector("dialog[open]") || document)
      .querySelectorAll("button, input, [tabindex='0']")).filter(control => control.checkVisibility())"""
    active = """(element => element.id || element.closest("[data-image]")?.dataset.image
      || element.parentElement.id + element.textContent)"""
    for _ in ("the page", "the panel"):
        wanted = set(await tab.evaluate(f"{controls}.map({active})"))
        reached = set()
        for _ in range(3 * len(wanted)):
            await tab.press("Tab", 9)
            reached.add(await tab.evaluate(f"{active}(document.activeElement)"))
            if wanted <= reached:
                break

        assert wanted - reached == set()
        await tab.evaluate("document.querySelector('tr[data-image] button').click()")
        await tab.until("document.querySelector('#detail-next').textContent", "the panel")


async def test_names_with_script_are_shown_as_text(tab: Tab, stage: Stage) -> None:
    stage.status["name"] = HACK
    stage.status["health"] = {
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
    stage.status["pulls"] = [failed]
    await _open(tab, stage)
    refused = {"type": "push-failed", "image": image, "cause": HACK}
    refreshed = {"type": "node-refreshed", "image": image, "node": HACK, "cause": HACK}
    for event in (refused, refreshed, {"type": "notice", "sentence": HACK}):
        stage.send(event)
        await tab.until(
            "document.querySelector('#news').textContent.includes('<img')", event["type"]
        )
    started = {"type": "push-started", "image": image, "because": HACK, "at": AT}
    stage.status["running"] = [started]
    stage.send(started)
    stage.send(stage.pull(image, HACK, 404, sentence=HACK, client=HACK))
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
async def test_event_changes_only_its_own_row(tab: Tab, stage: Stage, count: int) -> None:
    stage.cluster("dev", "server-0", "agent-0", "agent-1")
    for number in range(count):
        stage.image(f"team/app-{number:03}:dev", "in-step", "same", "new", "new", "new")
    image, other = (f"team/app-{number:03}:dev" for number in (7, 11))
    stage.status["pulls"] = [stage.pull(image, "up-to-date") for _ in range(200)][::-1]
    await _open(tab, stage)
    await tab.until("document.querySelectorAll('#pulls tbody tr').length === 200", "200 pulls")
    await tab.evaluate(RECORD_CHANGES)

    async def changed_by(**event: Any) -> list[str]:
        """Send an event, wait for its effect, and return what was changed."""
        stage.send(event)
        await tab.until("changed.length", str(event))
        return list(await tab.evaluate(TAKE_CHANGES))

    started = await changed_by(type="push-started", image=image, because="it differs", at=AT)
    moved = await changed_by(**push_progress(image, 10, 100, AT))
    pulled = await changed_by(**stage.pull(other, "up-to-date"))
    row = next(row for row in stage.status["images"] if row["image"] == other)
    row["state"], row["because"] = "behind", "it differs"
    stage.status["running"] = [{"image": image, "because": "it differs", "started_at": AT}]
    stage.status["pulls"] = [stage.pull(other, "up-to-date"), *stage.status["pulls"]][:200]
    await tab.evaluate(SHOW_PAGE)
    await tab.until(f"changed.includes('{other}')", "the row that changed")
    reread = await tab.evaluate(TAKE_CHANGES)

    assert set(started) == {image, "running"}
    assert set(moved) == {"running"}
    assert set(pulled) == {"pulls"}
    assert set(reread) - {"pulls"} == {other}
    assert max(map(len, (started, moved, pulled, reread))) <= 24


async def test_images_that_are_not_up_to_date_can_be_filtered(tab: Tab, stage: Stage) -> None:
    show_every_state(stage)
    await _open(tab, stage)
    rows = "Array.from(document.querySelectorAll('#images tbody tr:not([hidden])'), row => row.dataset.image)"

    await tab.evaluate("document.querySelector('#only').click()")
    await tab.until(f"{rows}.length === 5", "five")
    await tab.evaluate("document.querySelector('#filter').focus()")
    await tab.send("Input.insertText", text="jobs")

    await tab.until(f"{rows}.join() === 'shop/jobs:dev'", "the one that matches")
    assert await tab.evaluate("document.title") == "(5) autoregistry"


async def test_last_known_state_stays_while_the_registry_is_away(tab: Tab, stage: Stage) -> None:
    show_every_state(stage)
    await _open(tab, stage)
    stage.status["health"]["backend"] = "the registry at http://backend:5000 does not answer"
    stage.status |= {"images": [], "is_compared": False}

    await tab.evaluate(SHOW_PAGE)
    banner = await tab.until("document.querySelector('#banner:not([hidden])')?.textContent", "it")

    assert banner.startswith("The registry at http://backend:5000 does not answer")
    assert "This page shows the state at" in banner
    assert await tab.evaluate("document.querySelectorAll('#images tbody tr').length") == 8


@pytest.mark.parametrize(
    ("health", "start"),
    [
        ({"journal": "disk is full"}, "The journal cannot be written (disk is full)."),
        (
            {"background": {"network-repair": "KeyError: 'Id'"}},
            "Background work fails and is restarted: network-repair (KeyError: 'Id').",
        ),
    ],
    ids=["journal", "background"],
)
async def test_banner_names_a_journal_and_background_work_that_fail(
    tab: Tab, stage: Stage, health: dict[str, Any], start: str
) -> None:
    await _open(tab, stage)
    stage.status["health"] |= health

    await tab.evaluate(SHOW_PAGE)
    banner = await tab.until("document.querySelector('#banner:not([hidden])')?.textContent", "it")

    assert banner.startswith(start)
