"""Checks of a request's headers before anything is done for it: Host, origin, framing, `Expect`.

A page in a browser can make any name mean 127.0.0.1 (DNS rebinding), so the Host must be one of ours.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from autoregistry.events import Answer
from autoregistry.proxy.compat import send_continue
from autoregistry.proxy.http.responses import error_response
from autoregistry.settings import Settings


async def handle_expect(request: web.Request) -> web.Response | None:
    """Send `100 Continue`; return the error response if the client expects anything else (RFC 9110, 10.1.1)."""
    if request.version < HttpVersion11:
        return None
    if request.headers["Expect"].lower() == "100-continue":
        await send_continue(request)
        return None
    response = error_response(
        Answer.NOT_A_REGISTRY_REQUEST, "no expectation but 100-continue is supported"
    )
    response.force_close()  # its body may follow
    return response


def framing_fault(request: web.Request) -> str | None:
    """Return what could make the backend read this request's body as another request; None if nothing.

    aiohttp takes what follows a request for a websocket, or the method CONNECT, for another protocol, and so reads
    no body, whatever length was declared. Any other protocol that is offered may be declined (RFC 9110, 7.8).
    """
    is_websocket = "websocket" in request.headers.get("Upgrade", "").lower()
    if request.method == "CONNECT" or is_websocket:
        return "no other protocol is supported"
    if request.method in ("GET", "HEAD") and request.body_exists:
        # The request may be sent again, after a push; the registry would then take the next request for this body.
        return f"a {request.method} has no body"
    if not request.body_exists and request.headers.get("Content-Length", "0").strip("0"):
        return "a length is given, and no body"
    if len(request.headers.getall("Host", ())) > 1:
        return "more than one Host"
    return None


def is_from_another_site(request: web.Request) -> bool:
    """Return True for a request of another site's page; only browsers send this header (W3C Fetch Metadata)."""
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")


def our_hosts(settings: Settings) -> frozenset[str]:
    """Return the host names that requests may use."""
    named = [host_name(name) for name in (*settings.names.all, *settings.allow_hosts)]
    ours = {*named, "localhost", "host.k3d.internal"} - {""}
    if settings.container:
        ours.add(settings.container)
    return frozenset(host.lower() for host in ours)


def host_name(host: str) -> str:
    """Return the name in `name:port`, without the brackets of an IPv6 address; empty if there is none."""
    if "@" in host:
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_ip(host: str) -> bool:
    """Return True for an IP address: it needs no DNS, so there is no rebinding."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def client_name(request: web.Request) -> str:
    """Return the client's first product name, `containerd/2.3.7`."""
    return (request.headers.get("User-Agent", "").split() or ["unknown"])[0][:60]
