"""A TCP relay that slows uploads down, so that a push takes as long as a test needs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

# What a connection may send at full speed: requests without a large body are not slowed down.
FREE_BYTES = 16 * 1024


class Throttle:
    """Relays to a registry; `bytes_per_second` may be changed at any time, None is full speed."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname or "", target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes_per_second: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for source, sink, slow in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, slow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(8192):
                sent += len(data)
                if slow and self.bytes_per_second and sent > FREE_BYTES:
                    time.sleep(len(data) / self.bytes_per_second)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()


@contextmanager
def throttled(url: str) -> Iterator[Throttle]:
    throttle = Throttle(url)
    try:
        yield throttle
    finally:
        throttle.close()
