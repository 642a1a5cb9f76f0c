"""500 connections, half of them stalled readers or slow senders, and ten pushes: `crowded(port, digest)`.

The crowd is a separate process, so that it does not slow down the measurement. It ends when its stdin is closed.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.load import MIB, path_of, upload

STALLED_READERS = 125
SLOW_SENDERS = 125
IDLE = 250
PUSHES = 10
REPOSITORY = "bench/blob"


@contextmanager
def crowded(port: int, digest: str) -> Iterator[None]:
    """Run the crowd; `digest` is a large blob of the repository."""
    argv = [sys.executable, "-m", "benchmarks.crowd", str(port), digest]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise ConnectionError("no crowd")
        yield
    finally:
        process.stdin.close()
        process.wait(120)
        process.stdout.close()


def _open(port: int, text: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(text.encode())
    return connection


def _slow_sender(port: int) -> socket.socket:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    location = path_of(client, 202)
    client.close()
    return _open(
        port, f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\nx"
    )


def _push(port: int, over: threading.Event) -> None:
    while not over.is_set():
        with suppress(ConnectionError, http.client.HTTPException):
            upload(port, REPOSITORY, os.urandom(MIB), 8)


def main() -> None:
    port, digest = int(sys.argv[1]), sys.argv[2]
    get = f"GET /v2/{REPOSITORY}/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connections = [_open(port, get) for _ in range(STALLED_READERS)]
    connections += [_slow_sender(port) for _ in range(SLOW_SENDERS)]
    connections += [_open(port, "") for _ in range(IDLE)]
    over = threading.Event()
    pushes = [threading.Thread(target=_push, args=(port, over)) for _ in range(PUSHES)]
    for push in pushes:
        push.start()
    print("ready", flush=True)
    sys.stdin.read()
    over.set()
    for push in pushes:
        push.join()
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    main()
