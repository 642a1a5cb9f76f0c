"""A relay to a registry or to Docker that can slow down, stall and cut connections."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

# Each connection may send this much at full speed, so that only requests with a large body are slow.
FREE_BYTES = 16 * 1024


class Throttle:
    """Relays to `http://HOST:PORT` or `unix:///PATH`; its behavior can be changed at any time."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        if self._target.scheme == "unix":
            # A socket's path must be short.
            path = Path(tempfile.mkdtemp(prefix="relay")) / "docker.sock"
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(64)
            self.url = f"unix://{path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes_per_second: int | None = None
        """The speed of what clients send; None is full speed."""
        self.pause_seconds = 0.0
        """The pause before each piece, in both directions."""
        self._flows = threading.Event()
        self._flows.set()
        self._stranded: list[threading.Event] = []
        self._is_cut = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Stall all connections without closing them."""
        self._flows.clear()

    def strand(self) -> None:
        """Stall the open connections for ever; new ones work."""
        self._stranded.append(self._flows)
        self._flows.clear()
        self._flows = threading.Event()
        self._flows.set()

    def cut(self) -> None:
        """Close all connections, and new ones at once."""
        self._is_cut = True
        for end in list(self._open):
            self._end(end)

    def heal(self) -> None:
        """Let stalled connections continue, and accept new ones."""
        self._is_cut = False
        self._flows.set()

    def close(self) -> None:
        self.cut()
        for flows in (self._flows, *self._stranded):
            flows.set()
        self._end(self._listener)
        if self._target.scheme == "unix":
            path = Path(urlsplit(self.url).path)
            path.unlink()
            path.parent.rmdir()

    def _end(self, end: socket.socket) -> None:
        self._open.discard(end)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def _connect(self) -> socket.socket:
        if self._target.scheme != "unix":
            return socket.create_connection((self._target.hostname or "", self._target.port or 80))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._target.path)
        except OSError:
            server.close()
            raise
        return server

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            if self._is_cut:
                self._end(client)
                self._end(server)
                continue
            for source, sink, slow in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._pump, args=(source, sink, slow, self._flows), daemon=True
                ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, slow: bool, flows: threading.Event
    ) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(8192):
                sent += len(data)
                if slow and self.bytes_per_second and sent > FREE_BYTES:
                    time.sleep(len(data) / self.bytes_per_second)
                time.sleep(self.pause_seconds)
                flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            self._end(end)


@contextmanager
def throttled(url: str) -> Iterator[Throttle]:
    throttle = Throttle(url)
    try:
        yield throttle
    finally:
        throttle.close()
