"""Private containerds that pull like a node: Debian's 1.6, and 2.3 as in k3s."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dev.lab import debian
from dev.lab.cache import CACHE, LOGS, RUN
from dev.lab.engine_files import environment
from dev.lab.processes import Process, recorded
from dev.lab.tools import tool

Version = Literal["1.6", "2.3"]
_READY_SECONDS = 30
_NAMES = itertools.count()
_CONFIG = """\
version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
]
[grpc]
address = {address}
[ttrpc]
address = {ttrpc}
"""


@dataclass(frozen=True, slots=True)
class Programs:
    """A daemon and the client of the same version."""

    daemon: Path
    ctr: Path


def programs(version: Version) -> Programs:
    """Return the programs of a version, prepared on first use."""
    if version == "1.6":
        return Programs(tool("containerd-1.6"), tool("ctr-1.6"))
    return Programs(tool("containerd"), tool("ctr"))


def sweep() -> None:
    """Stop containerds whose test was killed, and delete their stores."""
    for name in recorded("containerd-"):
        owner = name.split("-")[2]
        if not Path(f"/proc/{owner}").exists():
            Containerd("2.3", Path(), name).stop()


@dataclass(frozen=True, slots=True)
class Containerd:
    """One daemon with its own store; it reads `hosts_dir` at every pull."""

    version: Version
    hosts_dir: Path
    name: str

    @property
    def log(self) -> Path:
        """The daemon's output."""
        return LOGS / f"{self.name}.log"

    @property
    def _state(self) -> Path:
        return RUN / self.name

    @property
    def _root(self) -> Path:
        return CACHE / "data" / self.name

    @property
    def _process(self) -> Process:
        return Process(self.name, self.log)

    def start(self) -> None:
        """Start it with an empty store and wait until it answers."""
        self._state.mkdir(parents=True, exist_ok=True)
        self._root.mkdir(parents=True, exist_ok=True)
        address = self._state / "s"
        paths = {
            "root": self._root,
            "state": self._state / "state",
            "address": address,
            "ttrpc": self._state / "t",
        }
        config = self._state / "config.toml"
        quoted = {name: json.dumps(str(path)) for name, path in paths.items()}
        config.write_text(_CONFIG.format(**quoted))
        self._process.start([programs(self.version).daemon, "-c", config], environment())
        atexit.register(self.stop)
        self._process.wait_until(self._ready, seconds=_READY_SECONDS)

    def _ready(self) -> bool:
        return self.ctr("version").returncode == 0

    def ctr(self, *args: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run its `ctr`; standard error is part of the output, as in a terminal."""
        client = programs(self.version).ctr
        return subprocess.run(
            [client, "--address", self._state / "s", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )

    def pull(self, reference: str, *, timeout: float = 600) -> tuple[int, str]:
        """Pull as a node does, with hosts.toml and `?ns=`; return the exit code and the output."""
        local = [] if self.version == "1.6" else ["--local"]
        hosts = f"--hosts-dir={self.hosts_dir}"
        arguments = [hosts, "--snapshotter=native", *local, reference]
        done = self.ctr("images", "pull", *arguments, timeout=timeout)
        return done.returncode, done.stdout

    def digest(self, reference: str) -> str | None:
        """Return the digest that it holds under a name, or None."""
        rows = [row.split() for row in self.ctr("images", "list").stdout.splitlines()]
        return next((row[2] for row in rows if row and row[0] == reference), None)

    def remove(self, reference: str) -> None:
        """Remove a name, and content that no other name uses."""
        self.ctr("images", "remove", "--sync", reference)

    def stop(self) -> None:
        """Stop it and delete its store."""
        self._process.stop()
        atexit.unregister(self.stop)
        for folder in (self._state, self._root):
            shutil.rmtree(folder, ignore_errors=True)


def containerd(version: Version, hosts_dir: Path) -> Containerd:
    """Start a containerd with an empty store."""
    debian.need_root("containerd")
    sweep()
    name = f"containerd-{version}-{os.getpid()}-{next(_NAMES)}"
    daemon = Containerd(version, hosts_dir, name)
    daemon.start()
    return daemon
