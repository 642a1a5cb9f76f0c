"""The Docker daemon that commands use, and where this process runs relative to it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from autoregistry import __version__
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images, platform_mismatch
from autoregistry.errors import AutoregistryError
from autoregistry.names import Image, RegistryNames


def daemon() -> Daemon:
    """Return the daemon that Docker's own tools would use. Its user agent does not mark pushes as the proxy's."""
    return Daemon(f"autoregistry/{__version__}")


def is_local(daemon: Daemon) -> bool:
    """Return True if the daemon publishes ports on this machine, as far as it can be seen from here."""
    if not daemon.host.startswith("unix://"):
        return False
    # A container that shares the machine's network also has the machine's name.
    return not in_container() or daemon.info().name == platform.node()


def in_container() -> bool:
    """Return True if this process runs in a container (Docker creates this file in each)."""
    return Path("/.dockerenv").exists()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The facts that a daemon has about an image."""

    identity: str
    """Empty if it does not have the image."""
    platforms: tuple[str, ...]
    architecture: str
    """The daemon's, and so that of the nodes, which are its containers."""
    builders: tuple[str, ...]

    def remark(self) -> str:
        """Return the platforms, or why a node could not run the image without emulation."""
        return platform_mismatch(self.platforms, self.architecture) or ", ".join(self.platforms)


def image_facts(daemon: Daemon, names: RegistryNames, image: Image) -> ImageFacts | None:
    """Ask the daemon about an image. Return None if the daemon cannot be reached."""
    images = Images(daemon)
    try:
        local = ((name, images.inspect(name)) for name in names.docker_references(image))
        reference, identity = next(((n, i.identity) for n, i in local if i), ("", ""))
        return ImageFacts(
            identity,
            tuple(images.platforms(reference)) if reference else (),
            images.architecture(),
            tuple(images.builders()),
        )
    except AutoregistryError:
        return None
