"""Waiting for the parts of the node."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from dev.node.inside.files import PROGRAMS

_PATIENCE = 120.0
_PAUSE = 0.1


def until(what: str, is_so: Callable[[], bool]) -> None:
    """Wait for a condition; after a time limit, exit with what was waited for."""
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"not after {_PATIENCE:.0f} s: {what}")
        time.sleep(_PAUSE)


def get(url: str, token: str) -> bytes:
    """Return the response of the API server, or nothing if there is none or it is an error."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with opener.open(request, timeout=5) as response:
            return bytes(response.read())
    except OSError:
        return b""


def succeeds(program: str, *arguments: str | Path, wanted: str = "") -> bool:
    """Return True if a program of the node succeeds and its output contains `wanted`."""
    argv = [str(PROGRAMS / program), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode == 0 and wanted in done.stdout
