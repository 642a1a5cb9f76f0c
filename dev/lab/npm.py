"""npm packages, from the lock files in `dev/tools/<name>`, which pin versions and hashes.

npm's own configuration chooses the registry; scripts of the packages are not run.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from dev.lab import debian
from dev.lab.cache import TOOLS, once, run

_FILES = ("package.json", "package-lock.json")


def axe() -> Path:
    """Return the script of axe-core, which finds accessibility problems of a page."""
    return _package("axe-core", usually=5) / "axe.min.js"


def _package(name: str, *, usually: int) -> Path:
    """Return the folder of a package, at the version and hash of its lock file."""
    pins = b"".join((TOOLS / name / file).read_bytes() for file in _FILES)
    version = hashlib.sha256(pins).hexdigest()[:12]

    def make(draft: Path) -> None:
        if shutil.which("npm") is None:
            debian.install("npm")
        for file in _FILES:
            shutil.copy(TOOLS / name / file, draft)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], log="npm", cwd=draft)

    return once(name, version, make, usually=usually) / "node_modules" / name
