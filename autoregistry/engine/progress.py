"""How far a push is, as Docker's stream of it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Progress:
    """A push under way, in the bytes that Docker reports for each layer."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each layer that moves: bytes done, bytes in all."""
    finished: set[str] = field(default_factory=set)
    digest: str | None = None
    """What the tag is in the registry after the push, in Docker's last words."""

    @property
    def done_bytes(self) -> int:
        return sum(done for done, _ in self.layers.values())

    @property
    def total_bytes(self) -> int:
        return sum(total for _, total in self.layers.values())

    @property
    def total_layers(self) -> int:
        return len(self.layers)

    @property
    def done_layers(self) -> int:
        return len(self.finished & self.layers.keys())

    def read(self, line: dict[str, Any]) -> bool:
        """Take in one line of the stream; whether it changed anything."""
        layer, status = line.get("id"), str(line.get("status", ""))
        if not layer:
            return False
        if status == "Pushing" and (detail := line.get("progressDetail")):
            done = int(detail.get("current") or 0)
            known = self.layers.get(layer, (0, 0))
            self.layers[layer] = (done, max(done, int(detail.get("total") or 0), known[1]))
            return True
        if status == "Pushed":
            if layer in self.layers:
                total = self.layers[layer][1]
                self.layers[layer] = (total, total)
            self.finished.add(layer)
            return True
        return status.startswith("Retrying")


OnProgress = Callable[[Progress], None]
"""Told of every step. It may raise: then Docker is left, and ends the push by itself."""
