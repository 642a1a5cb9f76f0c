"""The web page: one static file, with headers that let a browser run only the script in it.

Names, labels and reasons are fetched as JSON, and the page shows them as text.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from aiohttp import web

from autoregistry import api_paths

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Page:
    """Serves `GET /_autoregistry/`, and `GET /` to browsers."""

    def __init__(self) -> None:
        self._text = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        self._headers = {
            "Content-Security-Policy": _policy(self._text),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def page(self, _: web.Request) -> web.Response:
        """Return the page."""
        return web.Response(text=self._text, content_type="text/html", headers=self._headers)

    async def root(self, request: web.Request) -> web.Response | None:
        """Redirect a browser to the page; return None for registry clients, which do not accept HTML."""
        if "text/html" not in request.headers.get("Accept", ""):
            return None
        return await self.redirect(request)

    async def redirect(self, _: web.Request) -> web.Response:
        """Redirect to the page."""
        headers = {"Location": api_paths.PAGE, "Cache-Control": "no-store", "Vary": "Accept"}
        return web.Response(status=302, headers=headers)


def _policy(text: str) -> str:
    """Allow only the page's own script and style, and requests to its own origin."""
    hashes = {
        kind: b64encode(sha256(content.encode()).digest()).decode()
        for kind, content in _INLINE.findall(text)
    }
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'sha256-{hashes['script']}'",
            f"style-src 'sha256-{hashes['style']}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
