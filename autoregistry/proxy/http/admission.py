"""Checks of a request's headers before anything is done for it: Host, origin, framing, `Expect`."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from autoregistry import api_paths
from autoregistry.events import Answer
from autoregistry.proxy.backend.response import one_line
from autoregistry.proxy.compat import send_continue
from autoregistry.proxy.http.responses import OwnResponse
from autoregistry.settings import Settings

_PAGE_PATHS = ("/", api_paths.PREFIX, api_paths.PAGE)


async def check_expectation(request: web.Request) -> None:
    """Send `100 Continue` to a client that waits for it. Refuse any other expectation (RFC 9110, 10.1.1)."""
    expected = request.headers.get("Expect", "").lower()
    if not expected or request.version < HttpVersion11:
        return
    if expected != "100-continue":
        sentence = "no expectation but 100-continue is supported"
        raise OwnResponse(Answer.NOT_A_REGISTRY_REQUEST, sentence, close=True)
    await send_continue(request)


def check_sender(request: web.Request, our_hosts: frozenset[str]) -> None:
    """Refuse a request for another host or from another site.

    A page in a browser can make any name mean 127.0.0.1 (DNS rebinding), so the Host must be one of ours. A page of
    another site cannot read our responses, but its requests may make us work.
    """
    host = host_name(request)
    if host not in our_hosts and not _is_usable_ip(host):
        sentence = f"{host[:100] or 'no Host'} is not a name of this registry"
        raise OwnResponse(Answer.FOREIGN_HOST, sentence)
    if _is_from_another_site(request):
        raise OwnResponse(Answer.FOREIGN_HOST, "not for pages of other sites")


def _is_from_another_site(request: web.Request) -> bool:
    """Return True for a request of another site's page, unless it is a link to our page.

    Only browsers send `Origin` (RFC 6454) and `Sec-Fetch-*` (W3C Fetch Metadata).
    """
    host = request.headers.get("Host", "")
    if request.headers.get("Origin") not in (None, f"http://{host}", f"https://{host}"):
        return True
    if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return False
    is_link = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
    return not is_link or request.raw_path.partition("?")[0] not in _PAGE_PATHS


def check_framing(request: web.Request) -> None:
    """Refuse what could make the backend read this request's body as another request.

    aiohttp takes what follows a request for a websocket, or the method CONNECT, for another protocol, and so reads
    no body, whatever length was declared. Any other protocol that is offered may be declined (RFC 9110, 7.8).
    """
    is_websocket = "websocket" in request.headers.get("Upgrade", "").lower()
    if request.method == "CONNECT" or is_websocket:
        fault = "no other protocol is supported"
    elif request.method in ("GET", "HEAD") and request.body_exists:
        # The request may be sent again, after a push; the registry would then take the next request for this body.
        fault = f"a {request.method} has no body"
    elif not request.body_exists and request.headers.get("Content-Length", "0").strip("0"):
        fault = "a length is given, and no body"
    elif len(request.headers.getall("Host", ())) > 1:
        fault = "more than one Host"
    else:
        return
    raise OwnResponse(Answer.NOT_A_REGISTRY_REQUEST, fault, close=True)


def our_hosts(settings: Settings) -> frozenset[str]:
    """Return the host names that requests may use."""
    named = [_name(name) for name in (*settings.names.all, *settings.allow_host)]
    ours = {*named, "localhost", "host.k3d.internal", settings.container or ""}
    return frozenset(host.lower() for host in ours if host)


def host_name(request: web.Request) -> str:
    """Return the name in the request's Host, without the brackets of an IPv6 address; empty if there is none."""
    return _name(request.headers.get("Host", ""))


def _name(host: str) -> str:
    try:
        return "" if "@" in host else urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_usable_ip(host: str) -> bool:
    """Return True for an IP address: it needs no DNS, so there is no rebinding.

    Browsers take 0.0.0.0 for this machine, and send neither `Origin` nor `Sec-Fetch-*` with a page's GET to it.
    """
    try:
        address = ipaddress.ip_address(host)
        return not (getattr(address, "ipv4_mapped", None) or address).is_unspecified
    except ValueError:
        return False


def client_name(request: web.Request) -> str:
    """Return the client's first product name, `containerd/2.3.7`, without what a terminal would take for commands."""
    return (one_line(request.headers.get("User-Agent", "")).split() or ["unknown"])[0][:60]
