"""Debian's Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dev.lab import LabError
from dev.lab.debian import install

_PORT_FILE = "DevToolsActivePort"


class Tab:
    """One page. What it logged, and what its policy refused, is in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._n = 0
        self.complaints: list[str] = []
        self.heard: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        """What it says unasked, of the kinds that are keys here."""

    async def read(self) -> None:
        """Take what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if (waiting := self._answers.pop(said.get("id", 0), None)) is not None:
                waiting.set_result(said)
            elif said["method"] in self.heard:
                self.heard[said["method"]].put_nowait(said["params"])
            elif said.get("method") == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])
            elif said.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._n += 1
        answer = self._answers[self._n] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._n, "method": method, "params": parameters})
        said = await asyncio.wait_for(answer, 30)
        assert "error" not in said, f"{method}: {said}"
        return dict(said["result"])

    async def open(self, url: str) -> None:
        for domain in ("Log", "Runtime", "Page"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        there = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        await self.until(there, url)

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        said = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, script: str, what: str, seconds: float = 30) -> Any:
        """The expression's first true value; fails with what was waited for, and what was seen last."""
        deadline = time.monotonic() + seconds
        while not (seen := await self.evaluate(script)):
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s, {seen!r}"
            await asyncio.sleep(0.05)
        return seen

    async def press(self, key: str, code: int, text: str = "") -> None:
        """A key, down and up."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {**named, "text": text} if text else named
        await self.send("Input.dispatchKeyEvent", type="keyDown", **down)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    async def look(self, width: int, height: int, scheme: str) -> None:
        """A window of this size, `light` or `dark`."""
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
        """What it looks like, as PNG."""
        taken = await self.send("Page.captureScreenshot", format="png")
        return b64decode(taken["data"])


@asynccontextmanager
async def browser(home: Path) -> AsyncIterator[Tab]:
    """A browser with one empty page; skips the test where there can be none."""
    try:
        await asyncio.to_thread(install, "chromium")
    except LabError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
    process = await asyncio.create_subprocess_exec(
        "chromium",
        "--headless=new",
        "--no-sandbox",  # tests run as root
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
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
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
