"""What the Docker of whoever types has of an image: it need not be the one that the proxy watches."""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.engine.connect import Daemon
from autoregistry.engine.images import Images
from autoregistry.errors import AutoregistryError
from autoregistry.names import Image, RegistryNames

# As the kernel calls it, and as images do.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class Here:
    """Facts of one daemon about one image."""

    identity: str
    """Empty where it has none."""
    platform: str
    architecture: str
    """The daemon's, and so that of the nodes, which are its containers."""
    builders: tuple[str, ...]

    def remark(self) -> str:
        """The platform, and whether a node could run it without emulation."""
        _, _, made_for = self.platform.partition("/")
        if made_for and self.architecture and made_for != self.architecture:
            return f"{self.platform}, and the nodes are {self.architecture}"
        return self.platform

    def is_another(self, docker: str) -> bool:
        """Whether this is not the Docker that has that image of the name."""
        return self.identity != docker


def here(daemon: Daemon, names: RegistryNames, image: Image) -> Here | None:
    """Ask it; None where it cannot be asked from here."""
    images = Images(daemon)
    try:
        found = [(r, local) for r in names.in_docker(image) if (local := images.inspect(r))]
        reference, identity = (found[0][0], found[0][1].identity) if found else ("", "")
        kernel = daemon.info().architecture
        return Here(
            identity,
            images.platform(reference) if reference else "",
            _ARCHITECTURES.get(kernel, kernel),
            tuple(images.builders()),
        )
    except AutoregistryError:
        return None
