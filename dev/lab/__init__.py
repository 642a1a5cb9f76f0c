"""The lab: real engines for tests and the demo, on a machine that has none.

Each part (a Docker daemon of either store, registries, containerds, command-line tools, base
images) is prepared once, on first use, in a cache outside the checkout, and reused from then on.
If the user of the machine already runs Docker, that daemon is used for its own image store.
"""

from __future__ import annotations

from dev.lab.containerd import Containerd, containerd
from dev.lab.dockerd import Docker, docker
from dev.lab.errors import LabError, UnavailableError
from dev.lab.images import image
from dev.lab.registry import Registry, start_registry
from dev.lab.tools import docker_config, tool

__all__ = [
    "Containerd",
    "Docker",
    "LabError",
    "Registry",
    "UnavailableError",
    "containerd",
    "docker",
    "docker_config",
    "image",
    "start_registry",
    "tool",
]
