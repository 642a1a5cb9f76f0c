"""The page: which clients get it, and with which headers."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from autoregistry.proxy.api import page
from autoregistry.stack.images import image_source
from tests.helpers.proxy_lab import Lab

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FILE = Path(page.__file__).with_name("page.html").read_text()


async def test_only_the_script_of_the_page_may_run(lab: Lab) -> None:
    response = await lab.client.get("/_autoregistry/")

    policy = dict(
        part.strip().split(" ", 1)
        for part in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", response.text, re.DOTALL)
        digest = b64encode(sha256(inline.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["", "status", "health", "events", "metrics"])
async def test_pages_of_other_sites_can_read_nothing(lab: Lab, path: str) -> None:
    headers = {"Origin": "http://evil.example"}
    async with lab.client.stream("GET", f"/_autoregistry/{path}", headers=headers) as response:
        assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_a_foreign_host_name_is_refused(lab: Lab) -> None:
    response = await lab.client.get("/_autoregistry/", headers={"Host": "evil.example"})
    assert response.status_code == 421


@pytest.mark.parametrize(
    ("method", "path", "accept", "status"),
    [
        pytest.param("GET", "/", BROWSER, 302, id="a browser"),
        pytest.param("GET", "/_autoregistry", BROWSER, 302, id="without the slash"),
        pytest.param("GET", "/", "*/*", 400, id="a registry client"),
        pytest.param("HEAD", "/", BROWSER, 400, id="HEAD"),
        pytest.param("POST", "/_autoregistry/", BROWSER, 400, id="the page accepts no POST"),
        pytest.param("GET", "/v2/", BROWSER, 200, id="the registry, also for a browser"),
    ],
)
async def test_only_browsers_are_sent_to_the_page(
    lab: Lab, method: str, path: str, accept: str, status: int
) -> None:
    response = await lab.client.request(method, path, headers={"Accept": accept})
    assert response.status_code == status
    if status == 302:
        assert response.headers["Location"] == "/_autoregistry/"


@pytest.mark.parametrize(
    "function",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"],
)
def test_foreign_text_cannot_become_markup(function: str) -> None:
    assert function not in FILE


def test_the_page_loads_nothing_from_other_hosts() -> None:
    assert not re.findall(r"(?:https?:)?//\w[\w.-]+\.\w", FILE)
    assert not re.findall(r"\son\w+=|\sstyle=|javascript:", FILE)


def test_the_image_of_the_proxy_contains_the_page() -> None:
    assert "autoregistry/proxy/api/page.html" in image_source("python:3").files
