"""Base images in a daemon: pulled if possible, else a stand-in of the same name."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dev.lab.cache import CACHE, RUN, locked, once, report, timed
from dev.lab.dockerd import Docker
from dev.lab.errors import LabError
from dev.lab.standins import STAND_INS

_LABEL = "autoregistry.lab.stand-in"
_PULL_SECONDS = 300
# An unreachable registry is not tried again for this long on this machine.
_REMEMBER_SECONDS = 6 * 3600


def image(docker: Docker, reference: str) -> str:
    """Make sure that the daemon has an image of this name, and return the name."""
    stand_in = STAND_INS.get(reference)
    wanted = None if stand_in is None else stand_in.version
    with locked(f"image-{docker.store}", directory=RUN):
        if _present(docker, reference, wanted) or pull(docker, reference):
            return reference
        if stand_in is None:
            known = ", ".join(STAND_INS)
            raise LabError(f"{reference} cannot be pulled; stand-ins exist for {known} only")
        part = re.sub(r"[^\w.]+", "-", reference)
        tree = once(part, stand_in.version, stand_in.make, usually=stand_in.usually)
        label = f"LABEL {_LABEL}={stand_in.version}"
        import_tree(docker, reference, tree, (*stand_in.changes, label))
    return reference


def import_tree(docker: Docker, reference: str, tree: Path, changes: Sequence[str]) -> None:
    """Create an image of one layer from a folder; `changes` are Dockerfile instructions."""
    flags = [word for change in changes for word in ("--change", change)]
    with (
        timed(f"importing {reference} into the {docker.store} store", usually=4),
        subprocess.Popen(
            ["tar", "-C", tree, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE
        ) as packing,
    ):
        done = subprocess.run(
            ["docker", "import", *flags, "-", reference],
            stdin=packing.stdout,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **docker.environment},
        )
    if done.returncode != 0 or packing.returncode != 0:
        raise LabError(f"docker import {reference} failed: {done.stderr.strip()}")


def _present(docker: Docker, reference: str, version: str | None) -> bool:
    """Return True for a real image, and for a stand-in of the current recipe."""
    label = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    done = docker.cli("image", "inspect", "--format", label, reference, check=False)
    return done.returncode == 0 and done.stdout.strip() in ("", version)


def pull(docker: Docker, reference: str) -> bool:
    """Pull an image and return True; an unreachable registry is remembered for hours."""
    first, slash, _ = reference.partition("/")
    registry = first if slash and ("." in first or ":" in first) else "docker.io"
    memory = CACHE / "unreachable" / registry
    if memory.exists() and time.time() - memory.stat().st_mtime < _REMEMBER_SECONDS:
        return False
    report(f"pulling {reference} (up to {_PULL_SECONDS} s)")
    try:
        subprocess.run(
            ["docker", "pull", "--quiet", reference],
            capture_output=True,
            check=True,
            timeout=_PULL_SECONDS,
            env={**os.environ, **docker.environment},
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        report(f"{registry} is unreachable: using a stand-in")
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.touch()
        return False
    return True
