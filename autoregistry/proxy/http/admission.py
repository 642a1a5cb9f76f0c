"""Who asks, who may, and in which form: the checks before anything is done for a request.

A page in a browser can make any name mean 127.0.0.1 (DNS rebinding), so the Host must be one of ours.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import HttpVersion11, web

from autoregistry.events import Answer
from autoregistry.proxy.http.responses import error_response
from autoregistry.settings import Settings


async def met_expectation(request: web.Request) -> web.Response | None:
    """Ask for the body that a client holds back; the answer to one that expects anything else (RFC 9110, 10.1.1)."""
    if request.version < HttpVersion11:
        return None
    if request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
        return None
    response = error_response(
        Answer.NOT_A_REGISTRY_REQUEST, "nothing but 100-continue can be expected here"
    )
    response.force_close()  # its body may follow
    return response


def framing_fault(request: web.Request) -> str | None:
    """What about the body's framing would let it pass for another request at the backend.

    aiohttp takes what follows a request for a websocket, or the method CONNECT, for another protocol, and so reads
    no body, whatever length was declared. Any other protocol that is offered may be declined (RFC 9110, 7.8).
    """
    is_other = "websocket" in request.headers.get("Upgrade", "").lower()
    if request.method == "CONNECT" or is_other:
        return "no other protocol is spoken here"
    if request.method in ("GET", "HEAD") and request.body_exists:
        # It may be asked a second time, after a push; the registry would then wait for this body, in the next request.
        return f"a {request.method} has no body"
    if not request.body_exists and request.headers.get("Content-Length", "0").strip("0"):
        return "a length is given, and no body"
    if len(request.headers.getall("Host", ())) > 1:
        return "more than one Host"
    return None


def is_from_another_site(request: web.Request) -> bool:
    """Whether another site's page asks: browsers say so, registry clients say nothing (W3C Fetch Metadata)."""
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")


def our_hosts(settings: Settings) -> frozenset[str]:
    """The host names by which requests may come."""
    named = [host_name(name) for name in (*settings.names.all, *settings.allow_hosts)]
    ours = {*named, "localhost", "host.k3d.internal"} - {""}
    if settings.container:
        ours.add(settings.container)
    return frozenset(host.lower() for host in ours)


def host_name(host: str) -> str:
    """The name in `name:port`, without the brackets of an IPv6 address; empty where it makes no sense."""
    if "@" in host:
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_ip(host: str) -> bool:
    """Whether it is an address: no DNS, so no rebinding."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def client_name(request: web.Request) -> str:
    """Who asks, as its first product name says: `containerd/2.3.7`."""
    return (request.headers.get("User-Agent", "").split() or ["unknown"])[0][:60]
