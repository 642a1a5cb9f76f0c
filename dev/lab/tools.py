"""Command-line tools: from Debian, from the tree with Docker 28, or built from pinned Go modules."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dev.lab import debian, engine_files
from dev.lab.cache import CACHE, locked
from dev.lab.gotools import go_program
from dev.lab.userdocker import users_docker

if TYPE_CHECKING:
    from dev.lab.dockerd import Docker

_DEBIAN = {
    "skopeo": ("skopeo", "/usr/bin/skopeo"),
    "busybox": ("busybox-static", "/bin/busybox"),
    "docker-registry": ("docker-registry", "/usr/bin/docker-registry"),
    "containerd-1.6": ("containerd", "/usr/bin/containerd"),
    "ctr-1.6": ("containerd", "/usr/bin/ctr"),
    "docker-20.10": ("docker.io", "/usr/bin/docker"),
}
_PLUGINS = "usr/libexec/docker/cli-plugins"


def tool(name: str) -> Path:
    """Return the program of that name, prepared on first use."""
    if name == "docker":
        return _docker_cli()
    if name in _DEBIAN:
        package, path = _DEBIAN[name]
        debian.install(package)
        return Path(path)
    return go_program(name)


@cache
def docker_config() -> Path:
    """Return a DOCKER_CONFIG with buildx and compose, so that builds are those of users."""
    config = CACHE / "docker-config"
    plugins = config / "cli-plugins"
    root = engine_files.new_root()
    with locked("docker-config"):
        plugins.mkdir(parents=True, exist_ok=True)
        for program in (root / _PLUGINS).iterdir():
            link = plugins / program.name
            if not link.exists():
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return config


def client_environment(daemon: Docker) -> dict[str, str]:
    """Return the variables of a client; for the user's own daemon they keep the user's configuration."""
    variables = {"DOCKER_HOST": daemon.host, "DOCKER_CONTEXT": ""}
    if daemon.host.startswith("unix://"):
        variables["DOCKER_SOCK"] = str(daemon.socket)
    if not daemon.owned:
        return variables
    programs = CACHE / "bin" / daemon.store
    programs.mkdir(parents=True, exist_ok=True)
    variables["PATH"] = f"{programs}:{os.environ.get('PATH', '')}"
    if daemon.store == "classic":
        # All of an old Docker: its client and builder, without plugins.
        _link(programs / "docker", tool("docker-20.10"))
        config = CACHE / "docker-config-classic"
        config.mkdir(parents=True, exist_ok=True)
    else:
        _link(programs / "docker", _docker_cli())
        config = docker_config()
    return {**variables, "DOCKER_CONFIG": str(config)}


def _docker_cli() -> Path:
    users = shutil.which("docker") if users_docker() else None
    return Path(users) if users else engine_files.new_root() / "usr/bin/docker"


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)
