"""Waiting for the node's parts."""

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
    """Wait for a condition; a node that never comes up says on what it waited."""
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"not after {_PATIENCE:.0f} s: {what}")
        time.sleep(_PAUSE)


def ask(url: str, token: str) -> bytes:
    """What the API server answers; nothing where it does not, or refuses."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with opener.open(request, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def says(program: str, *words: str | Path, wanted: str = "") -> bool:
    """Whether a program of the node succeeds, and prints what is wanted."""
    argv = [str(PROGRAMS / program), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode == 0 and wanted in done.stdout
