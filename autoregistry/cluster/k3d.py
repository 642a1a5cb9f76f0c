"""k3d's command line: exactly what is run, and nothing about what it does."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoregistry.errors import ClusterRefused

INSTALL = "https://k3d.io/stable/#installation"
# The first with `--registry-config` and this meaning of its flags.
OLDEST = (5, 0)


def program() -> str:
    """k3d on PATH, new enough. Raises ClusterRefused."""
    found = shutil.which("k3d")
    if found is None:
        raise ClusterRefused("k3d is not installed", f"see {INSTALL}")
    said = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"k3d version v(\d+)\.(\d+)\S*", said)
    if version and (int(version[1]), int(version[2])) < OLDEST:
        raise ClusterRefused(
            f"k3d {version[0].split()[-1]} is too old, 5.0 is needed", f"see {INSTALL}"
        )
    return found


def create(
    k3d: str, name: str, registries: Path, flags: Sequence[str], *, has_network: bool = False
) -> list[str]:
    """`k3d cluster create`, with the user's own flags.

    With a subnet of the network's own k3d gives each node an address that stays, and we take ours from the other
    end: otherwise a node may lose its address to us when Docker restarts (k3d-io/k3d#1637). `has_network`: the
    user's config file has chosen one, which a flag would override.
    """
    own_network = has_network or any(
        flag.split("=")[0] in ("--subnet", "--network") for flag in flags
    )
    subnet = [] if own_network else ["--subnet", "auto"]
    return [k3d, "cluster", "create", name, "--registry-config", str(registries), *subnet, *flags]


def delete(k3d: str, name: str) -> list[str]:
    return [k3d, "cluster", "delete", name]


def restart(k3d: str, name: str) -> list[list[str]]:
    """Not `docker restart`, which loses what k3d writes into a node's /etc/hosts; `cluster restart` came with 5.9."""
    return [[k3d, "cluster", "stop", name], [k3d, "cluster", "start", name]]


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run it, its output shown as it comes. Raises ClusterRefused."""
    ended = subprocess.run(argv, env=environment, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode != 0:
        said = " ".join(argv[1:4])
        raise ClusterRefused(f"k3d {said} failed, see above", "autoregistry doctor")
