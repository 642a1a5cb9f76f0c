"""What tests leave in the lab's daemons goes with the last process that uses them: a few runs would fill the disk."""

from __future__ import annotations

import atexit
import fcntl
import re
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import IO

from dev.lab.cache import RUN, telling

# A port that was free just then, or one that never answers; what somebody builds by hand is under localhost:5000.
_OF_A_TEST = re.compile(r"(localhost|127\.0\.0\.1):(9|\d{5})/")
# The classic store keeps a pushed image's digest as a name of its own, when its tag is gone, too.
_NAME = '{{.Repository}}{{if eq .Tag "<none>"}}@{{.Digest}}{{else}}:{{.Tag}}{{end}}'
_AT_ONCE = 50
_used: dict[str, IO[str]] = {}


def use(store: str, cli: Callable[..., CompletedProcess[str]]) -> None:
    """This process uses a daemon of the lab's, until `leave` or its end."""
    if store in _used:
        return
    path = RUN / "locks" / f"users-{store}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    _used[store] = path.open("w")
    fcntl.flock(_used[store], fcntl.LOCK_SH)
    atexit.register(leave, store, cli)


def leave(store: str, cli: Callable[..., CompletedProcess[str]]) -> None:
    """Take the images of tests away, unless another process uses the daemon: the last one does it."""
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
    with telling(
        f"removing {len(names)} images of tests, {store} store", usually=2 + len(names) // 25
    ):
        for first in range(0, len(names), _AT_ONCE):
            cli("rmi", *names[first : first + _AT_ONCE], check=False)
        cli("image", "prune", "--force", check=False)
        if store == "containerd":
            cli("builder", "prune", "--all", "--force", check=False)
