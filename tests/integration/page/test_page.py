"""The page in a real browser, with a real proxy, Docker and registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from dev.browser import Tab
from dev.lab import Docker, Registry
from tests.integration.helpers.browser import browser
from tests.integration.helpers.serving import Serve, build, serving
from tests.integration.helpers.throttle import Throttle, throttled

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20
HACK = "<img src=x onerror=hacked=1>"
WORDS = """(image => {
  const row = document.querySelector(`tr[data-image="${image}"]`);
  return row ? Array.from(row.querySelectorAll(".state"), state => state.textContent) : [];
})"""

# Buffers take some megabytes at once, so the bar is recorded in every frame.
RECORD_BARS = """(() => {
  window.bars = new Set();
  window.words = new Set();
  const note = () => {
    const bar = document.querySelector("#running progress");
    if (bar?.hasAttribute("value")) {
      bars.add(bar.value);
      words.add(bar.nextElementSibling.textContent);
    }
    requestAnimationFrame(note);
  };
  note();
})()"""
MESSAGE = """(text => text && !text.startsWith("requested") && text)(
  document.querySelector("#detail-result").textContent)"""
SHOWN_ROWS = "document.querySelectorAll('#images tbody tr:not([hidden])').length"
# Without automatic pushes no event reports a build; the page reads the state when it becomes visible.
SHOW_PAGE = "document.dispatchEvent(new Event('visibilitychange'))"


@pytest.fixture(scope="module")
def throttle(registry: Registry) -> Iterator[Throttle]:
    with throttled(registry.url) as relay:
        yield relay


@pytest.fixture(scope="module")
def proxy(
    engine: Docker, throttle: Throttle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """`autoregistry serve` that pushes only when a client pulls, in front of a registry that can be slow."""
    state = tmp_path_factory.mktemp("proxy")
    with serving(engine, throttle.url, state, "--no-watch") as started:
        yield started


@pytest.fixture
async def tab(proxy: Serve, throttle: Throttle, tmp_path: Path) -> AsyncIterator[Tab]:
    """The open page; afterwards there must be no script errors and no violations of its policy."""
    async with browser(tmp_path / "browser") as opened:
        await opened.set_window(1280, 900, "light")
        await opened.open(f"{proxy.url}/_autoregistry/")
        await opened.until("document.querySelector('#health').textContent.includes('live')", "live")
        yield opened
        assert not [text for text in opened.complaints if "ERR_" not in text]
    throttle.bytes_per_second = None


async def _build(serve: Serve, image: str, content: str, size: int = 0) -> None:
    name = f"{serve.name}/{image}"
    await asyncio.to_thread(build, serve.docker, name, content, random_bytes=size)


async def _tab_to(tab: Tab, element: str) -> None:
    """Press Tab until that element has the focus."""
    for _ in range(20):
        if await tab.evaluate(f"document.activeElement.{element}"):
            return
        await tab.press("Tab", 9)
    raise AssertionError(f"Tab never reaches {element}")


async def _wait_for_states(tab: Tab, image: str, *words: str) -> None:
    """Wait until the cells of an image show these states."""
    matches = " && ".join(f"seen[{at}]?.endsWith('{word}')" for at, word in enumerate(words))
    script = f"(seen => {matches} || false)({WORDS}('{image}'))"
    await tab.evaluate(SHOW_PAGE)
    await tab.until(script, f"{image}: {words}")


async def test_states_change_after_a_rebuild(proxy: Serve, tab: Tab) -> None:
    image = f"{proxy.docker.store}/turns:dev"
    await _build(proxy, image, "v1")
    await asyncio.to_thread(proxy.pull, image)
    await _wait_for_states(tab, image, "up to date", "up to date")
    await _build(proxy, image, "v2")
    await _wait_for_states(tab, image, "newer", "behind")

    await asyncio.to_thread(proxy.pull, image)

    await _wait_for_states(tab, image, "up to date", "up to date")
    pulls = await tab.evaluate("document.querySelector('#pulls tbody').textContent")
    assert pulls.count(image) == 2


@pytest.mark.parametrize(
    ("engine", "megabytes", "rate"),
    [
        pytest.param("containerd", 300, 80 * MEGABYTE, id="300 MB of random bytes"),
        pytest.param("classic", 32, 8 * MEGABYTE, id="32 MB over a slow network"),
    ],
    indirect=["engine"],
)
async def test_progress_bar_moves_while_docker_pushes(
    proxy: Serve, throttle: Throttle, tab: Tab, megabytes: int, rate: int
) -> None:
    image = f"{proxy.docker.store}/bar:dev"
    await _build(proxy, image, "v1", megabytes * MEGABYTE)
    throttle.bytes_per_second = rate
    await tab.evaluate(RECORD_BARS)

    # The client has no time limit: the duration depends on the machine.
    response = await asyncio.to_thread(proxy.pull, image, agent="crane/0.22", timeout=600)

    assert response.status_code == 200
    between = await tab.evaluate("[...bars].filter(value => 0 < value && value < 1)")
    assert len(between) >= 5
    assert between == sorted(between)
    assert await tab.evaluate("/MB\\/s, .* left/.test([...words].join())")
    await tab.until("!document.querySelector('#running li')", "the end of the push")


async def test_page_is_current_again_after_a_restart_of_the_proxy(proxy: Serve, tab: Tab) -> None:
    image = f"{proxy.docker.store}/restart:dev"
    await _build(proxy, image, "v1")
    await asyncio.to_thread(proxy.kill)
    await tab.until("document.querySelector('#health').textContent.includes('reconn')", "away")

    await asyncio.to_thread(proxy.start)

    await tab.until("document.querySelector('#health').textContent.includes('live')", "live")
    await _wait_for_states(tab, image, "only here", "missing")
    await asyncio.to_thread(proxy.pull, image)
    await _wait_for_states(tab, image, "up to date", "up to date")


async def test_keyboard_is_enough_to_push_an_image(proxy: Serve, tab: Tab) -> None:
    image = f"{proxy.docker.store}/keys:dev"
    await _build(proxy, image, "v1")
    await tab.evaluate("document.querySelector('#filter').focus()")
    await tab.send("Input.insertText", text="keys:")
    await _wait_for_states(tab, image, "only here", "missing")
    await tab.until(f"{SHOWN_ROWS} === 1", "filtered")

    await _tab_to(tab, f"closest('tr')?.dataset.image === '{image}'")
    await tab.press("Enter", 13, "\r")
    await tab.until("document.querySelector('#detail').open", "the detail panel")
    command = await tab.evaluate("document.querySelector('#detail-command').textContent")
    await _tab_to(tab, "id === 'push'")
    await tab.press("Enter", 13, "\r")
    message = await tab.until(MESSAGE, "a message")

    assert message == "the push is running"
    await _wait_for_states(tab, image, "up to date", "up to date")
    await tab.press("Escape", 27)
    await tab.until("!document.querySelector('#detail').open", "the panel is closed")
    assert command == f"autoregistry why {image}"


@asynccontextmanager
async def _hostile_registry() -> AsyncIterator[str]:
    """Run a registry that returns script in its lists and errors."""

    async def respond(request: web.Request) -> web.Response:
        match request.path:
            case "/v2/":
                return web.json_response({})
            case "/v2/_catalog":
                return web.json_response({"repositories": [HACK, "listed"]})
            case path if path.endswith("/tags/list"):
                return web.json_response({"name": "listed", "tags": [HACK, "dev"]})
        status = 403 if request.method == "POST" else 404
        return web.json_response({"errors": [{"code": "DENIED", "message": HACK}]}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("engine", ["classic"], indirect=True)
async def test_script_from_a_registry_or_a_client_is_shown_as_text(
    engine: Docker, tmp_path: Path
) -> None:
    async with _hostile_registry() as url:
        serve = Serve(engine, url, tmp_path / "state", ("--no-watch",))
        await asyncio.to_thread(serve.start)
        try:
            await _build(serve, "hostile:dev", "v1")
            response = await asyncio.to_thread(serve.pull, "hostile:dev", agent=HACK)
            async with browser(tmp_path / "browser") as tab:
                await tab.open(f"{serve.url}/_autoregistry/")
                for body in ("#images", "#pulls"):
                    text = f"document.querySelector('{body} tbody').textContent"
                    await tab.until(f"{text}.includes({HACK!r})", f"the cause in {body}")

                assert response.status_code == 403
                assert await tab.evaluate("typeof hacked") == "undefined"
                assert await tab.evaluate("document.querySelectorAll('img, script').length") == 1
                assert tab.complaints == []
        finally:
            await asyncio.to_thread(serve.stop)
