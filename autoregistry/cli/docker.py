"""The daemon that commands talk to, and where we run as seen from it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from autoregistry import __version__
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.platforms import platform_mismatch
from autoregistry.errors import AutoregistryError
from autoregistry.names import Image, RegistryNames


def daemon() -> Daemon:
    """The daemon that Docker's own tools would find, for commands; their pulls are nobody's own pushes."""
    return Daemon(f"autoregistry/{__version__}")


def is_local(daemon: Daemon) -> bool:
    """Whether the daemon's ports are this machine's ports, as far as one can see from here."""
    if not daemon.host.startswith("unix://"):
        return False
    # A container that shares the machine's network has the machine's name as well.
    return not in_container() or daemon.info().name == platform.node()


def container_name() -> str | None:
    """Our name on Docker's networks: in a container of ours the host name is the container's."""
    return platform.node() if in_container() else None


def in_container() -> bool:
    """Whether we run in a container (Docker leaves this file in each of its own)."""
    return Path("/.dockerenv").exists()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of one daemon about one image."""

    identity: str
    """Empty where it has none."""
    platforms: tuple[str, ...]
    architecture: str
    """The daemon's, and so that of the nodes, which are its containers."""
    builders: tuple[str, ...]

    def remark(self) -> str:
        """The platforms, and whether a node could run it without emulation."""
        return platform_mismatch(self.platforms, self.architecture) or ", ".join(self.platforms)

    def is_another(self, docker: str) -> bool:
        """Whether this is not the Docker that has that image of the name."""
        return self.identity != docker


def image_facts(daemon: Daemon, names: RegistryNames, image: Image) -> ImageFacts | None:
    """Ask it; None where it cannot be asked from here."""
    images = Images(daemon)
    try:
        found = [(r, local) for r in names.docker_references(image) if (local := images.inspect(r))]
        reference, identity = (found[0][0], found[0][1].identity) if found else ("", "")
        return ImageFacts(
            identity,
            tuple(images.platforms(reference)) if reference else (),
            images.architecture(),
            tuple(images.builders()),
        )
    except AutoregistryError:
        return None
