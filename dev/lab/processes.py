"""Daemons that outlive the process that started them, and are stopped only by their recorded pid.

A record holds the pid and the start time of the process, so that another process which got the
same pid later is never signaled.
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


def _start_time(pid: int) -> str | None:
    """Return the boot id and start time of a running process, or None for a zombie or no process."""
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
    """A named daemon, recorded in a file so that any later process can find it."""

    name: str
    log: Path

    @property
    def _record(self) -> Path:
        return _RECORDS / self.name

    @property
    def pid(self) -> int | None:
        """Its pid, while it runs."""
        try:
            pid, started = self._record.read_text().split()
        except (OSError, ValueError):
            return None
        reap(int(pid))
        return int(pid) if _start_time(int(pid)) == started else None

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """Start it in a new session with its output in the log.

        `posix_spawn` and not `Popen`: an unreferenced Popen object warns when it is collected.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        command = [str(word) for word in argv]
        pid = os.posix_spawnp(
            command[0],
            command,
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
        self._record.write_text(f"{pid} {_start_time(pid)}\n")

    def signal(self, number: int) -> None:
        """Send a signal, if it is running."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it is ready. Raises LabError if it ends first or the time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.pid is None:
                raise LabError(f"{self.name} ended while starting\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} not ready after {seconds:.0f} s\n{tail(self.log)}")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Send SIGKILL and wait until it has ended."""
        self.signal(signal.SIGKILL)
        self._wait_gone(10)

    def stop(self, *, grace: float = 10) -> None:
        """Send SIGTERM, and SIGKILL after the grace period."""
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
    """Return the names of recorded processes with a prefix."""
    return sorted(path.name for path in _RECORDS.glob(f"{prefix}*"))


def reap(pid: int) -> None:
    """Collect the exit status of a process, if it is a child of this one."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def processes_with(program: str, text: str) -> list[int]:
    """Return the processes of a program with `text` in their arguments; `containerd` includes its shims."""
    pids = []
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if Path(command.partition("\0")[0]).name.startswith(program) and text in command:
            pids.append(pid)
    return pids


def in_cgroup(name: str) -> list[int]:
    """Return the processes below a top-level control group, in any hierarchy."""
    pids = []
    for pid in _pids():
        try:
            groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except OSError:
            continue
        if any(line.split(":", 2)[2].startswith(f"/{name}/") for line in groups):
            pids.append(pid)
    return pids


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def kill_all(pids: Sequence[int]) -> None:
    """Send SIGKILL to each of them and wait up to five seconds until they have ended."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 5
    for pid in pids:
        while _start_time(pid) is not None and time.monotonic() < deadline:
            reap(pid)
            time.sleep(POLL_SECONDS)
