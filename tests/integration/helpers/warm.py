"""`autoregistry` as a process of its own, forked from one that has imported it already.

Importing takes 0.4 to 0.6 s of a core, and the suite starts six hundred: that was a seventh of its time. What runs is
`autoregistry.cli.main`, with its own arguments, environment, output and signals. That the program also starts by
itself is seen where the way it is installed or its environment matters: test_docs, test_elsewhere, test_surroundings,
test_ssh and test_tls.
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
    """What `subprocess.Popen` is, for `autoregistry WORDS`; without `output`, both streams are pipes."""

    def __init__(
        self, *words: str | Path, env: Mapping[str, str], output: IO[bytes] | None = None
    ) -> None:
        self.returncode: int | None = None
        self.stdout: IO[str] | None
        self.stderr: IO[str] | None
        pipes = [] if output else [os.pipe(), os.pipe()]
        ends = [output.fileno()] * 2 if output else [write for _, write in pipes]
        self.stdout, self.stderr = (os.fdopen(r) for r, _ in pipes) if pipes else (None, None)
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = json.dumps({"words": [str(word) for word in words], "env": dict(env)})
        with theirs:
            socket.send_fds(_warm()[0], [asked.encode()], [theirs.fileno(), *ends])
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
        """What it printed, answer and story, and wait for its end."""
        assert self.stdout is not None
        assert self.stderr is not None
        streams = [self.stdout, self.stderr]
        said = {stream: bytearray() for stream in streams}
        deadline = time.monotonic() + timeout
        while streams:
            ready = select.select(streams, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise subprocess.TimeoutExpired("autoregistry", timeout)
            for stream in ready:
                if more := os.read(stream.fileno(), 1 << 16):
                    said[stream] += more
                else:
                    streams.remove(stream)
        self.wait(max(0.0, deadline - time.monotonic()))
        answer, story = said[self.stdout].decode(), said[self.stderr].decode()
        self.stdout.close()
        self.stderr.close()
        return answer, story


@cache
def _warm() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The process that has imported it, and where to ask it; it ends when this one's end of the socket closes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.helpers.warm", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours, process


def main() -> None:
    import gc

    import autoregistry.cli
    import autoregistry.proxy.app

    gc.freeze()
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asked, files, _, _ = socket.recv_fds(control, 1 << 18, 3)
        if not asked:
            return
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    control.close()
    _keep(json.loads(asked), *files)
    autoregistry.cli.main()


def _keep(asked: dict[str, Any], status: int, out: int, err: int) -> None:
    """Become the program; its parent tells its number, and in the end its status, to who asked."""
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
    sys.argv = ["autoregistry", *asked["words"]]
    os.environ.clear()
    os.environ.update(asked["env"])


if __name__ == "__main__":
    main()
