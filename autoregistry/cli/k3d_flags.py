"""The registries and networks in a user's own k3d flags and config file, so that our flags do not override them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoregistry.cluster.mirror_config import parse_mapping
from autoregistry.errors import SettingInvalid

_REGISTRIES_FLAG = "--registry-config"
_CONFIG_FLAGS = ("-c", "--config")


@dataclass(slots=True)
class UserChoices:
    """The choices in the user's flags and k3d config file."""

    registries: dict[str, Any]
    flags: list[str]
    has_network: bool = False


def user_choices(flags: Sequence[str]) -> UserChoices:
    """Return the registries of the flag and of the config file, to be merged with ours, and the other flags.

    A flag overrides the config file (k3d cmd/cluster/clusterCreate.go), so our flag would replace its registries.
    """
    choices = UserChoices({}, [])
    words = list(flags)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag.startswith("-c") and not flag.startswith("--") and len(flag) > len("-c"):
            flag, equals, value = "-c", "=", word.removeprefix("-c").removeprefix("=")
        if flag not in (_REGISTRIES_FLAG, *_CONFIG_FLAGS):
            choices.flags.append(word)
            continue
        path = value if equals else (words.pop(0) if words else "")
        if flag == _REGISTRIES_FLAG:
            registries = parse_mapping(_read(path), path)
            choices.registries = _merged(choices.registries, registries)
        else:
            _add_config_file(choices, path)
    return choices


def _add_config_file(choices: UserChoices, path: str) -> None:
    choices.flags += ["--config", path]
    if path == "-":
        raise SettingInvalid(
            "the k3d config cannot come from standard input, because it is read twice",
            "autoregistry cluster create NAME -- --config FILE",
        )
    config = parse_mapping(_expanded(_read(path)), path)
    choices.has_network = bool(config.get("network") or config.get("subnet"))
    inline = str((config.get("registries") or {}).get("config") or "")
    if inline:
        is_path = "\n" not in inline
        text, source = (
            (_read(inline), inline) if is_path else (inline, f"registries.config in {path}")
        )
        choices.registries = _merged(parse_mapping(text, source), choices.registries)


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the mirrors and configs of both; the second has priority."""
    keys = {*first, *second}
    return {key: {**(first.get(key) or {}), **(second.get(key) or {})} for key in keys}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as exc:
        raise SettingInvalid(f"{path or 'the file'} cannot be read: {exc}") from exc


def _expanded(text: str) -> str:
    """Replace environment variables, as k3d does in its config file only (cmd/util/config/config.go).

    A variable that is not set becomes empty.
    """
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: os.environ.get(m[1] or m[2], ""), text)
