"""What Docker streams: lines of JSON, and the frames that carry stdout and stderr in one."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import requests

# moby pkg/stdcopy: the stream's number, three zeros, the length.
_FRAME = struct.Struct(">BxxxL")
STDERR = 2


def json_lines(answer: requests.Response) -> Iterator[dict[str, Any]]:
    """Each line of a push, pull or build."""
    for line in answer.iter_lines(chunk_size=None):
        if line.strip():
            yield json.loads(line)


def frames(answer: requests.Response) -> Iterator[tuple[int, bytes]]:
    """Docker's multiplexed stream: which of stdout and stderr, and the bytes."""
    kept = bytearray()
    for chunk in answer.iter_content(chunk_size=None):
        kept += chunk
        while len(kept) >= _FRAME.size:
            kind, length = _FRAME.unpack_from(kept)
            if len(kept) < _FRAME.size + length:
                break
            yield kind, bytes(kept[_FRAME.size : _FRAME.size + length])
            del kept[: _FRAME.size + length]
