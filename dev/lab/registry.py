"""Stock registries as plain processes: distribution 2.8 and 3.1 with their files on disk."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import random
import re
import socket
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dev.lab.cache import RUN
from dev.lab.processes import Process
from dev.lab.tools import tool

Version = Literal["2", "3"]
_PROGRAMS: dict[Version, tuple[str, str]] = {
    "2": ("docker-registry", "2.8.2 of Debian 12"),
    "3": ("registry3", "3.1.2"),
}
_READY_SECONDS = 20
_ports: list[int] = []
"""Their locks, open."""
_REQUEST = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d{3})')


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a registry's access log."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry on a port of its own; stopping it keeps its files."""

    directory: Path
    port: int
    version: Version

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it prints: its log, and one line a request."""
        return self.directory / "registry.log"

    @property
    def _process(self) -> Process:
        return Process(f"registry-{self.port}", self.log)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.yml"
        config.write_text(json.dumps(self._config(), indent=2))  # JSON is YAML
        program = tool(_PROGRAMS[self.version][0])
        environment = {"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"}
        self._process.stop()
        self._process.start([program, "serve", config], environment)
        atexit.register(self.stop)
        self._process.wait_until(self.ready, seconds=_READY_SECONDS)

    def _config(self) -> dict[str, object]:
        return {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "of a test"},
        }

    def ready(self) -> bool:
        """Whether it answers now."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Let it finish and end."""
        self._process.stop()
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def requests(self, method: str = "", path: str = "") -> list[Request]:
        """What it was asked since its log began: of this method, with `path` in the path.

        >>> registry.requests("PUT", "/manifests/")  # doctest: +SKIP
        """
        if not self.log.exists():
            return []
        found = (_REQUEST.search(line) for line in self.log.read_text().splitlines())
        requests = (Request(hit["method"], hit["path"], int(hit["status"])) for hit in found if hit)
        return [
            request
            for request in requests
            if method in ("", request.method) and path in request.path
        ]


def free_port() -> int:
    """A port on loopback that nobody listens on, and no other process of the tests is given while this one lives.

    Below those that the system itself gives out.
    """
    folder = RUN / "ports"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        port = random.randrange(20000, 32000)  # noqa: S311 - any will do
        lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR)
        with suppress(OSError), socket.socket() as probe:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            probe.bind(("127.0.0.1", port))
            _ports.append(lock)
            return port
        os.close(lock)


def start_registry(directory: Path, port: int = 0, version: Version = "2") -> Registry:
    """Start a registry with its files in `directory`; port 0 picks a free one."""
    registry = Registry(directory, port or free_port(), version)
    registry.start()
    return registry
