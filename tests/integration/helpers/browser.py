"""The browser of `dev.browser` for tests: skipped where the machine cannot have one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dev.browser import Tab, install_browser, open_browser
from tests.integration.helpers.availability import or_skip


@asynccontextmanager
async def browser(home: Path) -> AsyncIterator[Tab]:
    """Start a browser with one empty page."""
    await asyncio.to_thread(or_skip, install_browser)
    async with open_browser(home) as tab:
        yield tab
