"""The parts of the lab by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dev.lab.cache import CACHE
from dev.lab.containerd import programs
from dev.lab.dockerd import docker, lab_docker
from dev.lab.images import image
from dev.lab.npm import axe
from dev.lab.processes import Process, recorded
from dev.lab.standins import STAND_INS
from dev.lab.tools import tool
from dev.lab.userdocker import Store, users_docker

STORES: tuple[Store, ...] = ("classic", "containerd")


def _images() -> str:
    for store in STORES:
        for reference in STAND_INS:
            image(docker(store), reference)
    return ", ".join(STAND_INS)


PARTS: dict[str, Callable[[], str]] = {
    "classic": lambda: docker("classic").host,
    "containerd": lambda: docker("containerd").host,
    "registry2": lambda: str(tool("docker-registry")),
    "crane": lambda: str(tool("crane")),
    "containerd-1.6": lambda: str(programs("1.6").daemon),
    "containerd-2.3": lambda: str(programs("2.3").daemon),
    "k3d": lambda: str(tool("k3d")),
    "skopeo": lambda: str(tool("skopeo")),
    "registry3": lambda: str(tool("registry3")),
    "conformance": lambda: str(tool("conformance")),
    "axe-core": lambda: str(axe()),
    "images": _images,
}


def down() -> None:
    """Stop every process of the lab; its cache stays."""
    for name in recorded("registry-"):
        Process(name, CACHE).stop()
    for name in recorded("containerd-"):
        Process(name, CACHE).stop()
    for store in STORES:
        lab_docker(store).stop()


def status() -> Iterator[str]:
    """Yield one line for each daemon and each prepared part."""
    users = users_docker()
    if users is not None:
        yield f"{users.store:<11} {users.host} (your own)"
    for store in STORES:
        daemon = lab_docker(store)
        pid = daemon.pid
        state = "not running" if pid is None else f"pid {pid}"
        if pid is not None and not daemon.ready():
            state += ", not answering"
        yield f"{store:<11} {daemon.host} ({state})"
    for name in [*recorded("registry-"), *recorded("containerd-")]:
        pid = Process(name, CACHE).pid
        yield f"{name:<11} {'ended' if pid is None else f'pid {pid}'}"
    parts = CACHE / "parts"
    for folder in sorted(parts.iterdir()) if parts.is_dir() else []:
        if not folder.name.startswith("."):
            yield f"prepared    {folder.name}"
