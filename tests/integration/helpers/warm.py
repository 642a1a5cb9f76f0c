"""`autoregistry` as a separate process, forked from one that has already imported it.

The import takes 0.4 to 0.6 s of a core, and the suite starts six hundred processes: a seventh of its time. The fork
runs `autoregistry.cli.main` with its own arguments, environment, output and signals. The installed program itself is
started where its installation or environment matters: test_docs, test_elsewhere, test_surroundings, test_ssh, test_tls.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any


class Program:
    """Like `subprocess.Popen`, for `autoregistry ARGUMENTS`; without `output`, both streams are pipes."""

    def __init__(
        self, *arguments: str | Path, env: Mapping[str, str], output: IO[bytes] | None = None
    ) -> None:
        self.returncode: int | None = None
        self.stdout: IO[str] | None
        self.stderr: IO[str] | None
        pipes = [] if output else [os.pipe(), os.pipe()]
        ends = [output.fileno()] * 2 if output else [write for _, write in pipes]
        self.stdout, self.stderr = (os.fdopen(r) for r, _ in pipes) if pipes else (None, None)
        self._status, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"arguments": [str(a) for a in arguments], "env": dict(env)})
        with child_end:
            socket.send_fds(_warm()[0], [request.encode()], [child_end.fileno(), *ends])
        for _, write in pipes:
            os.close(write)
        self.pid = int(self._status.recv(16))

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self._status.recv(16) or 9))
            self._status.close()
        return self.returncode

    def wait(self, timeout: float) -> int:
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("autoregistry", timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Wait for its end and return its stdout and stderr."""
        assert self.stdout is not None
        assert self.stderr is not None
        streams = [self.stdout, self.stderr]
        output = {stream: bytearray() for stream in streams}
        deadline = time.monotonic() + timeout
        while streams:
            ready = select.select(streams, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise subprocess.TimeoutExpired("autoregistry", timeout)
            for stream in ready:
                if more := os.read(stream.fileno(), 1 << 16):
                    output[stream] += more
                else:
                    streams.remove(stream)
        self.wait(max(0.0, deadline - time.monotonic()))
        stdout, stderr = output[self.stdout].decode(), output[self.stderr].decode()
        self.stdout.close()
        self.stderr.close()
        return stdout, stderr


@cache
def _warm() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the process to fork from, and return its control socket; it ends when the socket closes."""
    control, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with child_end:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.helpers.warm", str(child_end.fileno())],
            pass_fds=[child_end.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(control.close)
    return control, process


def main() -> None:
    import gc

    import autoregistry.cli
    import autoregistry.proxy.app

    gc.freeze()
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, _, _ = socket.recv_fds(control, 1 << 18, 3)
        if not request:
            return
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    control.close()
    _become(json.loads(request), *files)
    autoregistry.cli.main()


def _become(request: dict[str, Any], status: int, out: int, err: int) -> None:
    """Become the program; the parent reports its process id, and at the end its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        os.close(out)
        os.close(err)
        os.write(status, str(child).encode())
        _, ended = os.waitpid(child, 0)
        os.write(status, str(ended).encode())
        os._exit(0)
    os.close(status)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, max(out, err) + 1)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", 1) for stream in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["autoregistry", *request["arguments"]]
    os.environ.clear()
    os.environ.update(request["env"])


if __name__ == "__main__":
    main()
