"""Debian's packages and trees, from the mirror that this machine itself is set up with."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from dev.lab.cache import locked, run, telling
from dev.lab.errors import UnavailableError
from dev.lab.userdocker import users_docker

_POLICY = Path("/usr/sbin/policy-rc.d")
# What no program reads; a third of a small tree, and images are pushed many times.
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists")
_HINT = "or run Docker yourself and set DOCKER_HOST"


def need_root(what: str) -> None:
    """Daemons, mounts and bridges are root's."""
    if os.geteuid() != 0:
        raise UnavailableError(f"{what} needs root: run as root, {_HINT}")


def need_bare_debian(what: str) -> None:
    """Refuse early, with the reason, on a machine where packages must not be installed."""
    need_root(what)
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"{what} needs a Debian machine: use one, {_HINT}")
    theirs = users_docker()
    if theirs is not None:
        raise UnavailableError(
            f"{what} is not installed beside your own Docker ({theirs.host}): "
            "use a machine without one for these tests"
        )


@cache
def install(*packages: str) -> None:
    """Install what is missing of these packages, without starting their services."""
    if all(_installed(package) for package in packages):
        return
    with locked("apt"):
        missing = [package for package in packages if not _installed(package)]
        if not missing:
            return
        need_bare_debian(", ".join(missing))
        with telling(f"installing {', '.join(missing)}", usually=10 + 2 * len(missing)):
            _install(missing)


def _install(packages: Sequence[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], log="apt", env=env)
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\n# Installing is not starting.\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        run(command, log="apt", env=env)
    finally:
        if ours:
            _POLICY.unlink()


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return done.stdout == "installed"


def mirror() -> str:
    """Where this machine gets Debian's main archive from."""
    query = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]
    listed = subprocess.run(query, capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        origin, label, uri = line.split("|", 2)
        if origin == label == "Debian":
            return uri
    raise UnavailableError("apt lists no archive of Debian: run apt-get update")


def tree(suite: str, directory: Path, *packages: str) -> None:
    """A minimal Debian of any suite in a directory, with these packages."""
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
