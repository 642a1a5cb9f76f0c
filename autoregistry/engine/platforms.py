"""What an image is made for, and whether nodes can run that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def platforms(facts: dict[str, Any]) -> list[str]:
    """Of an answer of `GET /images/{name}/json`: the image's `os/architecture`, or of each that an index has here."""
    there = [
        m for m in facts.get("Manifests") or [] if m.get("Kind") == "image" and m.get("Available")
    ]
    found = [m["ImageData"]["Platform"] for m in there]
    named = {f"{p['os']}/{p['architecture']}" for p in found}
    return sorted(named) or [
        f"{facts.get('Os') or 'unknown'}/{facts.get('Architecture') or 'unknown'}"
    ]


def platform_mismatch(platforms: Sequence[str], architecture: str) -> str:
    """Why a node of this architecture cannot run, without emulation, what is for these; empty where it can."""
    made_for = {platform.partition("/")[2] for platform in platforms}
    if not architecture or not made_for or architecture in made_for:
        return ""
    is_for = " and ".join(platforms)
    return f"is for {is_for}, and the nodes are {architecture}: docker build --platform linux/{architecture}"
