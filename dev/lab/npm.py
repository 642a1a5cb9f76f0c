"""Packages of npm, from lock files of our own in `dev/tools/<name>`, which pin versions and hashes.

Where they come from is npm's own configuration's matter; no script of theirs is run.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from dev.lab import debian
from dev.lab.cache import TOOLS, once, run

_FILES = ("package.json", "package-lock.json")


def axe() -> Path:
    """The script of axe-core, which finds what a page lacks for people who cannot see or point."""
    return _package("axe-core", usually=5) / "axe.min.js"


def _package(name: str, *, usually: int) -> Path:
    """The folder of a package, at the version and hash its lock file says."""
    pins = b"".join((TOOLS / name / file).read_bytes() for file in _FILES)
    version = hashlib.sha256(pins).hexdigest()[:12]

    def make(draft: Path) -> None:
        if shutil.which("npm") is None:
            debian.install("npm")
        for file in _FILES:
            shutil.copy(TOOLS / name / file, draft)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], log="npm", cwd=draft)

    return once(name, version, make, usually=usually) / "node_modules" / name
