"""Stock registries as processes: distribution 2.8 and 3.1, with their files on disk."""

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
"""The open locks of the ports."""
_REQUEST = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d{3})')


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a registry's access log."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry on its own port; its files stay when it is stopped."""

    directory: Path
    port: int
    version: Version

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Its output: messages, and one line per request."""
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
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "test"},
        }

    def ready(self) -> bool:
        """Return True if it answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/v2/", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Send SIGTERM and wait for its end."""
        self._process.stop()
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def requests(self, method: str = "", path: str = "") -> list[Request]:
        """Return the requests in its log, of this method and with `path` in their path.

        >>> registry.requests("PUT", "/manifests/")  # doctest: +SKIP
        """
        if not self.log.exists():
            return []
        hits = (_REQUEST.search(line) for line in self.log.read_text().splitlines())
        requests = (Request(hit["method"], hit["path"], int(hit["status"])) for hit in hits if hit)
        return [
            request
            for request in requests
            if method in ("", request.method) and path in request.path
        ]


def free_port() -> int:
    """Return a free port on loopback, reserved for this process while it runs.

    It is below the ports that the system assigns by itself.
    """
    folder = RUN / "ports"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        port = random.randrange(20000, 32000)  # noqa: S311 - not for security
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
