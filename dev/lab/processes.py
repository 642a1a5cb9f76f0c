"""Daemons that outlive their starter, and are only ever ended by the pid that was recorded.

A record holds the pid and when that process was born, so that a number which the kernel has
given to somebody else in the meantime is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.lab.cache import RUN
from dev.lab.errors import LabError, tail

POLL_SECONDS = 0.05
_RECORDS = RUN / "processes"


def _birth(pid: int) -> str | None:
    """Boot and start time of a living process, or nothing for a dead one or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] == "Z":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{fields[19]}"


@dataclass(frozen=True, slots=True)
class Process:
    """A named daemon: who it is stands in a file, so that any later process can find it."""

    name: str
    log: Path

    @property
    def _record(self) -> Path:
        return _RECORDS / self.name

    @property
    def pid(self) -> int | None:
        """Its pid while it lives."""
        try:
            pid, birth = self._record.read_text().split()
        except (OSError, ValueError):
            return None
        reap(int(pid))
        return int(pid) if _birth(int(pid)) == birth else None

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """Start it in a session of its own, output to its log.

        `posix_spawn` and not `Popen`: a forgotten Popen object warns when it is collected.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        words = [str(word) for word in argv]
        pid = os.posix_spawnp(
            words[0],
            words,
            dict(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self.adopt(pid)

    def adopt(self, pid: int) -> None:
        """Record a process as the one of this name."""
        _RECORDS.mkdir(parents=True, exist_ok=True)
        self._record.write_text(f"{pid} {_birth(pid)}\n")

    def signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it answers; it ending first, or the time running out, is an error."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.pid is None:
                raise LabError(f"{self.name} ended while starting\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} not ready after {seconds:.0f} s\n{tail(self.log)}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._wait_gone(10)

    def stop(self, *, grace: float = 10) -> None:
        """Ask it to end; insist when the grace period is over."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if not self._wait_gone(grace):
            self.kill()
        self._record.unlink(missing_ok=True)

    def _wait_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def recorded(prefix: str) -> list[str]:
    """Names of the recorded processes that begin with a prefix."""
    return sorted(path.name for path in _RECORDS.glob(f"{prefix}*"))


def reap(pid: int) -> None:
    """Take the exit status of a child of ours; other people's children are none of our business."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def naming(program: str, text: str) -> list[int]:
    """Living processes of a program (`containerd` means its shims too) naming `text` in argv."""
    found = []
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if Path(command.partition("\0")[0]).name.startswith(program) and text in command:
            found.append(pid)
    return found


def in_cgroup(name: str) -> list[int]:
    """Processes below a control group of that name at the top, in any hierarchy."""
    found = []
    for pid in _pids():
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            continue
        if any(line.split(":", 2)[2].startswith(f"/{name}/") for line in groups):
            found.append(pid)
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL each of them and wait (shortly) until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 5
    for pid in pids:
        while _birth(pid) is not None and time.monotonic() < deadline:
            reap(pid)
            time.sleep(POLL_SECONDS)
