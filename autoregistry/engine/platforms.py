"""The platforms of an image, and whether nodes can run them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def image_platforms(facts: dict[str, Any]) -> list[str]:
    """Return the `os/architecture` of an image, or those of an index that Docker has.

    `facts` is the response to `GET /images/{name}/json`.
    """
    manifests = facts.get("Manifests") or []
    available = (m for m in manifests if m.get("Kind") == "image" and m.get("Available"))
    platforms = (m["ImageData"]["Platform"] for m in available)
    names = {f"{p['os']}/{p['architecture']}" for p in platforms}
    own = (str(facts.get(key) or "unknown") for key in ("Os", "Architecture"))
    return sorted(names) or ["/".join(own)]


def platform_mismatch(platforms: Sequence[str], architecture: str) -> str:
    """Return why nodes of this architecture need emulation for these platforms; empty if they do not."""
    architectures = {platform.partition("/")[2] for platform in platforms}
    if not architecture or not architectures or architecture in architectures:
        return ""
    built_for = " and ".join(platforms)
    return f"is for {built_for}, and the nodes are {architecture}: docker build --platform linux/{architecture}"
