"""k3d's command lines, and running them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoregistry.errors import ClusterRefused

_INSTALL_HINT = "see https://k3d.io/stable/#installation"
# The first version with `--registry-config` and the current meaning of its flags.
_OLDEST_K3D = (5, 0)


def program() -> str:
    """Return the path of k3d. Raises ClusterRefused if it is not installed, or too old."""
    path = shutil.which("k3d")
    if path is None:
        raise ClusterRefused("k3d is not installed", _INSTALL_HINT)
    output = subprocess.run([path, "version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"k3d version v(\d+)\.(\d+)\S*", output)
    if version and (int(version[1]), int(version[2])) < _OLDEST_K3D:
        number = version[0].split()[-1]
        raise ClusterRefused(f"k3d {number} is too old; 5.0 or later is required", _INSTALL_HINT)
    return path


def create(
    k3d: str, name: str, registries: Path, flags: Sequence[str], *, has_network: bool = False
) -> list[str]:
    """Return the `k3d cluster create` command with the user's own flags.

    On a network with its own subnet k3d gives each node a fixed address, and we take ours from the other end of the
    range. Otherwise a node may lose its address to us when Docker restarts (k3d-io/k3d#1637). `has_network` is True if
    the user's config file chooses a network, which a flag would override.
    """
    own_network = has_network or any(
        flag.split("=")[0] in ("--subnet", "--network") for flag in flags
    )
    subnet = [] if own_network else ["--subnet", "auto"]
    return [k3d, "cluster", "create", name, "--registry-config", str(registries), *subnet, *flags]


def delete(k3d: str, name: str) -> list[str]:
    """Return the `k3d cluster delete` command."""
    return [k3d, "cluster", "delete", name]


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command with its output shown. Raises ClusterRefused if it fails."""
    ended = subprocess.run(argv, env=environment, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode != 0:
        raise ClusterRefused(
            f"`k3d {' '.join(argv[1:4])}` failed, see above", "autoregistry doctor"
        )
