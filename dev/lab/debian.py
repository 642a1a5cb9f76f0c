"""Debian packages and file trees, from the mirror that this machine is configured with."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from dev.lab.cache import locked, run, timed
from dev.lab.errors import UnavailableError
from dev.lab.userdocker import users_docker

_POLICY = Path("/usr/sbin/policy-rc.d")
# Not read by any program, but a third of a small tree; images are pushed many times.
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists")
_HINT = "or run Docker yourself and set DOCKER_HOST"


def need_root(what: str) -> None:
    """Raise UnavailableError unless run as root, which daemons, mounts and bridges require."""
    if os.geteuid() != 0:
        raise UnavailableError(f"{what} needs root: run as root, {_HINT}")


def need_bare_debian(what: str) -> None:
    """Raise UnavailableError on a machine where the lab must not install packages."""
    need_root(what)
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"{what} needs a Debian machine: use one, {_HINT}")
    users = users_docker()
    if users is not None:
        raise UnavailableError(
            f"{what} is not installed beside your own Docker ({users.host}): "
            "use a machine without one for these tests"
        )


@cache
def install(*packages: str) -> None:
    """Install missing packages without starting their services."""
    if all(_installed(package) for package in packages):
        return
    with locked("apt"):
        missing = [package for package in packages if not _installed(package)]
        if not missing:
            return
        need_bare_debian(", ".join(missing))
        with timed(f"installing {', '.join(missing)}", usually=10 + 2 * len(missing)):
            _install(missing)


def _install(packages: Sequence[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], log="apt", env=env)
    is_missing = not _POLICY.exists()
    if is_missing:
        _POLICY.write_text("#!/bin/sh\n# Do not start services on installation.\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        run(command, log="apt", env=env)
    finally:
        if is_missing:
            _POLICY.unlink()


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return done.stdout == "installed"


def mirror() -> str:
    """Return the URL of the Debian archive that this machine uses."""
    query = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]
    listed = subprocess.run(query, capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        origin, label, uri = line.split("|", 2)
        if origin == label == "Debian":
            return uri
    raise UnavailableError("apt lists no Debian archive: run apt-get update")


def tree(suite: str, directory: Path, *packages: str) -> None:
    """Install a minimal Debian of any suite with these packages into a directory."""
    install("debootstrap")
    include = f"--include={','.join(packages)}"
    run(
        ["debootstrap", "--variant=minbase", include, suite, directory, mirror()],
        log=f"debootstrap-{suite}",
    )
    for name in _NOT_NEEDED:
        shutil.rmtree(directory / name, ignore_errors=True)
    for archive in (directory / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
