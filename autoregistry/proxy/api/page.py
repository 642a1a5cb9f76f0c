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

_TEXT = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_HASHES = {
    kind: b64encode(sha256(content.encode()).digest()).decode()
    for kind, content in re.findall(r"<(script|style)>(.*?)</\1>", _TEXT, re.DOTALL)
}
# Only the page's own script and style, and requests to its own origin.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
    f"script-src 'sha256-{_HASHES['script']}'; style-src 'sha256-{_HASHES['style']}'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


async def page(_: web.Request) -> web.Response:
    """Serve `GET /_autoregistry/`."""
    return web.Response(text=_TEXT, content_type="text/html", headers=_HEADERS)


async def root(request: web.Request) -> web.Response | None:
    """Redirect a browser to the page; return None for registry clients, which do not accept HTML."""
    return await redirect(request) if "text/html" in request.headers.get("Accept", "") else None


async def redirect(_: web.Request) -> web.Response:
    """Redirect to the page."""
    headers = {"Location": api_paths.PAGE, "Cache-Control": "no-store", "Vary": "Accept"}
    return web.Response(status=302, headers=headers)
