"""Removal of the images of tests by the last process that uses a daemon: a few runs would fill the disk."""

from __future__ import annotations

import atexit
import fcntl
import re
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import IO

from dev.lab.cache import RUN, timed

# Ports of tests: a free one, or one without a listener. Images under localhost:5000 are not from tests.
_OF_A_TEST = re.compile(r"(localhost|127\.0\.0\.1):(9|\d{5})/")
# The classic store keeps the digest of a pushed image as a separate name, even without its tag.
_NAME = '{{.Repository}}{{if eq .Tag "<none>"}}@{{.Digest}}{{else}}:{{.Tag}}{{end}}'
_AT_ONCE = 50
_used: dict[str, IO[str]] = {}


def use(store: str, cli: Callable[..., CompletedProcess[str]]) -> None:
    """Note that this process uses a daemon, until `leave` or the end of the process."""
    if store in _used:
        return
    path = RUN / "locks" / f"users-{store}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    _used[store] = path.open("w")
    fcntl.flock(_used[store], fcntl.LOCK_SH)
    atexit.register(leave, store, cli)


def leave(store: str, cli: Callable[..., CompletedProcess[str]]) -> None:
    """Remove the images of tests, unless another process still uses the daemon."""
    if (users := _used.pop(store, None)) is None:
        return
    with users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if cli("version", check=False).returncode == 0:
            _tidy(store, cli)


def _tidy(store: str, cli: Callable[..., CompletedProcess[str]]) -> None:
    listed = cli("images", "--digests", "--format", _NAME, check=False).stdout.split()
    names = sorted({name for name in listed if _OF_A_TEST.match(name)})
    if not names:
        return
    with timed(
        f"removing {len(names)} test images from the {store} store", usually=2 + len(names) // 25
    ):
        for first in range(0, len(names), _AT_ONCE):
            cli("rmi", *names[first : first + _AT_ONCE], check=False)
        cli("image", "prune", "--force", check=False)
        if store == "containerd":
            cli("builder", "prune", "--all", "--force", check=False)
