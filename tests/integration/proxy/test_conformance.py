"""The OCI distribution conformance program gives the same results for the proxy as for the registry."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import lab
from dev.lab.registry import Version
from tests.integration.helpers.serving import Serve, serving

pytestmark = pytest.mark.engine

Results = Counter[tuple[str, str]]
SECONDS = 120


@pytest.fixture(params=["2", "3"])
def proxied(request: pytest.FixtureRequest, tmp_path: Path, engine: lab.Docker) -> Iterator[Serve]:
    if engine.store == "containerd":
        pytest.skip("no image of Docker is involved: one store is enough")
    version: Version = request.param
    registry = lab.start_registry(tmp_path / "registry", version=version)
    with serving(engine, registry, tmp_path / "state", "--no-watch") as serve:
        yield serve
    registry.stop()


def _conformance(url: str, names: str, results: Path) -> Results:
    results.mkdir()
    environment = {
        "OCI_REGISTRY": url.removeprefix("http://"),
        "OCI_TLS": "disabled",
        "OCI_REPO1": f"conformance/{names}/one",
        "OCI_REPO2": f"conformance/{names}/two",
        "OCI_RESULTS_DIR": str(results),
    }
    done = subprocess.run(
        [lab.tool("conformance")],
        env={**os.environ, **environment},
        cwd=results,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    report = results / "junit.xml"
    assert report.exists(), done.stdout + done.stderr
    return Counter(
        (f"{case.get('classname')} {case.get('name')}", _status(case))
        for case in ET.parse(report).getroot().iter("testcase")  # noqa: S314 - written by the program
    )


def _status(case: ET.Element) -> str:
    return next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "ok")


def test_conformance_results_are_those_of_the_registry(proxied: Serve, tmp_path: Path) -> None:
    directly = _conformance(proxied.backend, "direct", tmp_path / "direct")
    by_proxy = _conformance(proxied.url, "proxy", tmp_path / "proxy")

    assert directly.total() > 50
    assert directly == by_proxy
