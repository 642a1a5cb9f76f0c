"""The progress of a push or a pull, read from Docker's stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOVING = ("Pushing", "Downloading")
_DONE = ("Pushed", "Download complete", "Pull complete")


@dataclass(slots=True)
class Progress:
    """A push or a pull under way, in the bytes that Docker reports for each layer."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each layer that is transferred: bytes done, bytes in all."""
    finished: set[str] = field(default_factory=set)
    digest: str | None = None
    """The digest that the registry has for the tag after a push."""

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

    def read(self, line: Mapping[str, Any]) -> bool:
        """Take in one line of the stream. Return True if there is progress to report."""
        layer, status = line.get("id"), str(line.get("status", ""))
        if not layer:
            return False
        if status in _MOVING and (detail := line.get("progressDetail")):
            done = int(detail.get("current") or 0)
            known = self.layers.get(layer, (0, 0))
            self.layers[layer] = (done, max(done, int(detail.get("total") or 0), known[1]))
            return True
        if status in _DONE:
            if layer in self.layers:
                total = self.layers[layer][1]
                self.layers[layer] = (total, total)
            self.finished.add(layer)
            return True
        return status.startswith("Retrying")


OnProgress = Callable[[Progress], None]
"""Called at each step. If it raises, the request is closed, and Docker ends the push by itself."""
