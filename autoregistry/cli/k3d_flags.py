"""What a user's own k3d flags and config file say about registries and networks, so that ours does not undo it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoregistry.cluster.mirror_config import mapping
from autoregistry.errors import SettingInvalid

_OURS = ("--registry-config",)
_PLACES = ("-c", "--config")


@dataclass(slots=True)
class Own:
    """What the user's flags and k3d config file say themselves."""

    registries: dict[str, Any]
    flags: list[str]
    has_network: bool = False


def own_choices(flags: Sequence[str]) -> Own:
    """The user's own registries, of the flag and of the config file, to be merged; and the other flags.

    A flag beats the config (k3d cmd/cluster/clusterCreate.go), so ours would replace what stands there.
    """
    own = Own({}, [])
    words = list(flags)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag.startswith("-c") and not flag.startswith("--") and len(flag) > len("-c"):
            flag, equals, value = "-c", "=", word.removeprefix("-c").removeprefix("=")
        if flag not in (*_OURS, *_PLACES):
            own.flags.append(word)
            continue
        place = value if equals else (words.pop(0) if words else "")
        if flag in _OURS:
            own.registries = _merged(own.registries, mapping(_text(place), place))
            continue
        own.flags += ["--config", place]
        if place == "-":
            raise SettingInvalid(
                "k3d's config is read twice here, which its standard input cannot be",
                "autoregistry cluster create NAME -- --config FILE",
            )
        config = mapping(_expanded(_text(place)), place)
        own.has_network = bool(config.get("network") or config.get("subnet"))
        inline = str((config.get("registries") or {}).get("config") or "")
        if inline:
            where = f"registries.config in {place}"
            text, where = (inline, where) if "\n" in inline else (_text(inline), inline)
            own.registries = _merged(mapping(text, where), own.registries)
    return own


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Mirrors and configs of both; the second wins."""
    keys = {*first, *second}
    return {key: {**(first.get(key) or {}), **(second.get(key) or {})} for key in keys}


def _text(place: str) -> str:
    try:
        return Path(place).read_text()
    except OSError as exc:
        raise SettingInvalid(f"{place or 'the file'} cannot be read: {exc}") from exc


def _expanded(text: str) -> str:
    """With the environment's variables in it, nothing where there is none.

    k3d does so with its config file, and with no other (cmd/util/config/config.go).
    """
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: os.environ.get(m[1] or m[2], ""), text)
