"""What the Docker of whoever types has of an image: it need not be the one that the proxy watches."""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import Images
from autoregistry.engine.platforms import unfit
from autoregistry.errors import AutoregistryError
from autoregistry.names import Image, RegistryNames


@dataclass(frozen=True, slots=True)
class Here:
    """Facts of one daemon about one image."""

    identity: str
    """Empty where it has none."""
    platforms: tuple[str, ...]
    architecture: str
    """The daemon's, and so that of the nodes, which are its containers."""
    builders: tuple[str, ...]

    def remark(self) -> str:
        """The platforms, and whether a node could run it without emulation."""
        return unfit(self.platforms, self.architecture) or ", ".join(self.platforms)

    def is_another(self, docker: str) -> bool:
        """Whether this is not the Docker that has that image of the name."""
        return self.identity != docker


def here(daemon: Daemon, names: RegistryNames, image: Image) -> Here | None:
    """Ask it; None where it cannot be asked from here."""
    images = Images(daemon)
    try:
        found = [(r, local) for r in names.in_docker(image) if (local := images.inspect(r))]
        reference, identity = (found[0][0], found[0][1].identity) if found else ("", "")
        return Here(
            identity,
            tuple(images.platforms(reference)) if reference else (),
            images.architecture(),
            tuple(images.builders()),
        )
    except AutoregistryError:
        return None
