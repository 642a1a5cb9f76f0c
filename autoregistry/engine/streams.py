"""The formats of Docker's streams: tar, lines of JSON, and frames that carry stdout and stderr in one."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import requests

# moby pkg/stdcopy: the stream's number, three zeros, the length.
_FRAME = struct.Struct(">BxxxL")
STDERR = 2


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
