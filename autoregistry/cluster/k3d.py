"""k3d's command lines with the user's own flags and config file, and running them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from argparse import ArgumentError, ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoregistry.cluster.mirror_config import merge_registries, parse_mapping
from autoregistry.errors import ClusterRefused, SettingInvalid

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


def run(argv: Sequence[str], daemon: Mapping[str, str]) -> None:
    """Run a command with its output shown, with the variables of a daemon. Raises ClusterRefused if it fails."""
    variables = {**os.environ, **daemon}
    ended = subprocess.run(argv, env=variables, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode != 0:
        command = " ".join(argv[1:4])
        raise ClusterRefused(f"`k3d {command}` failed, see above", "autoregistry doctor")


def split_flags(flags: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the registries in the user's flags and k3d config, and the other flags for `k3d cluster create`.

    A flag overrides the config file (k3d cmd/cluster/clusterCreate.go), so our `--registry-config` would replace its
    registries. Unless the user chooses a network, `--subnet` is added: k3d then gives each node a fixed address
    (`addresses.py` explains why that matters).
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--registry-config", action="append", default=[])
    parser.add_argument("--config", "-c", action="append", default=[])
    try:
        known, others = parser.parse_known_args(list(flags))
    except ArgumentError as exc:
        raise SettingInvalid(str(exc)) from exc
    registries: dict[str, Any] = {}
    has_network = any(flag.split("=")[0] in ("--subnet", "--network") for flag in others)
    for path in known.config:
        config = _read_config(path)
        has_network |= bool(config.get("network") or config.get("subnet"))
        registries = merge_registries(registries, _registries_of(config, path))
        others += ["--config", path]
    for path in known.registry_config:
        registries = merge_registries(registries, parse_mapping(_read(path), path))
    return registries, others if has_network else ["--subnet", "auto", *others]


def _read_config(path: str) -> dict[str, Any]:
    """Return a k3d config file, with environment variables replaced as k3d does (cmd/util/config/config.go).

    A variable that is not set becomes empty.
    """
    if path == "-":
        raise SettingInvalid(
            "the k3d config cannot come from standard input, because it is read twice",
            "autoregistry cluster create NAME -- --config FILE",
        )
    variable = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
    text = variable.sub(lambda match: os.environ.get(match[1] or match[2], ""), _read(path))
    return parse_mapping(text, path)


def _registries_of(config: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the registries of a k3d config, which names a file or has the text itself."""
    text = str((config.get("registries") or {}).get("config") or "")
    if text and "\n" not in text:
        return parse_mapping(_read(text), text)
    return parse_mapping(text, f"registries.config in {path}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as exc:
        raise SettingInvalid(f"{path or 'the file'} cannot be read: {exc}") from exc
