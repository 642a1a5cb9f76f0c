"""Base images."""

from __future__ import annotations

from dev.lab.dockerd import Docker

STAND_INS: dict[str, str] = {}


def image(docker: Docker, reference: str) -> str:
    """Make an image present."""
    return reference
