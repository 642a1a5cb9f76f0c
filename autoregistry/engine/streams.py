"""The formats of Docker's streams: tar, lines of JSON and progress, and frames that carry stdout and stderr."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

# moby pkg/stdcopy: the stream's number, three zeros, the length.
_FRAME = struct.Struct(">BxxxL")
STDERR = 2
_MOVING = ("Pushing", "Downloading")
_DONE = ("Pushed", "Download complete", "Pull complete")


def tar_of(files: Mapping[str, bytes]) -> io.BytesIO:
    """Return an archive. The same files give the same bytes, so that the builder's cache works."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive


def json_lines(response: requests.Response) -> Iterator[dict[str, Any]]:
    """Yield each line of a push, pull, build or event stream."""
    for line in response.iter_lines(chunk_size=None):
        if line.strip():
            yield json.loads(line)


def stream_error(line: Mapping[str, Any]) -> str:
    """Return the error that a line of a stream reports, or an empty string."""
    return str((line.get("errorDetail") or {}).get("message") or line.get("error") or "").strip()


def frames(response: requests.Response) -> Iterator[tuple[int, bytes]]:
    """Yield each frame of a multiplexed stream: the number of the stream (1 or 2), and the bytes."""
    buffer = bytearray()
    for chunk in response.iter_content(chunk_size=None):
        buffer += chunk
        while len(buffer) >= _FRAME.size:
            kind, length = _FRAME.unpack_from(buffer)
            if len(buffer) < _FRAME.size + length:
                break
            yield kind, bytes(buffer[_FRAME.size : _FRAME.size + length])
            del buffer[: _FRAME.size + length]


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
