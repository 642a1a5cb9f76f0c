"""Debian's Chromium without a window, controlled through its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from dev.lab.debian import install

_PORT_FILE = "DevToolsActivePort"


class Tab:
    """One page. Its log messages and the violations of its security policy are in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._responses: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._n = 0
        self.complaints: list[str] = []
        self.events: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        """Receives the events of the kinds that are keys here."""

    async def read(self) -> None:
        """Dispatch the browser's messages until the connection ends."""
        async for frame in self._socket:
            message = json.loads(frame.data)
            if (waiting := self._responses.pop(message.get("id", 0), None)) is not None:
                waiting.set_result(message)
            elif message["method"] in self.events:
                self.events[message["method"]].put_nowait(message["params"])
            elif message["method"] == "Log.entryAdded":
                self.complaints.append(message["params"]["entry"]["text"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))

    async def send(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command and return its result."""
        self._n += 1
        response = self._responses[self._n] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._n, "method": method, "params": parameters})
        message = await asyncio.wait_for(response, 30)
        assert "error" not in message, f"{method}: {message}"
        return dict(message["result"])

    async def open(self, url: str) -> None:
        for domain in ("Log", "Runtime", "Page"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        is_loaded = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        await self.until(is_loaded, url)

    async def evaluate(self, script: str) -> Any:  # noqa: ANN401 - any value of JavaScript
        """Return the value of an expression in the page; promises are awaited."""
        result = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str, what: str, seconds: float = 30) -> Any:  # noqa: ANN401 - as above
        """Return the expression's first true value; on timeout, fail with `what` and the last value."""
        deadline = time.monotonic() + seconds
        while not (seen := await self.evaluate(script)):
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s, {seen!r}"
            await asyncio.sleep(0.05)
        return seen

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {**named, "text": text} if text else named
        await self.send("Input.dispatchKeyEvent", type="keyDown", **down)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    async def set_window(self, width: int, height: int, scheme: str) -> None:
        """Set the size of the window and the color scheme, `light` or `dark`."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self) -> bytes:
        """Return a picture of the window, as PNG."""
        picture = await self.send("Page.captureScreenshot", format="png")
        return b64decode(picture["data"])


def install_browser() -> None:
    """Install the browser if it is missing. Raises LabError where the machine cannot have one."""
    install("chromium")


@asynccontextmanager
async def open_browser(home: Path) -> AsyncIterator[Tab]:
    """Start a browser with one empty page."""
    process = await asyncio.create_subprocess_exec(
        "chromium",
        "--headless=new",
        "--no-sandbox",  # the lab runs as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--remote-debugging-port=0",
        f"--user-data-dir={home}",
        "about:blank",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = await _port(home / _PORT_FILE)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                pages = [page for page in await response.json() if page["type"] == "page"]
            address = pages[0]["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                reading = asyncio.create_task(tab.read())
                yield tab
                reading.cancel()
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def _port(file: Path) -> int:
    deadline = time.monotonic() + 30
    while (port := _read_port(file)) is None:
        assert time.monotonic() < deadline, "chromium did not start"
        await asyncio.sleep(0.05)
    return port


def _read_port(file: Path) -> int | None:
    lines = file.read_text().split() if file.exists() else []
    return int(lines[0]) if len(lines) == 2 else None
