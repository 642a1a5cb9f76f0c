"""`autoregistry serve` as a process, in front of a real registry, and what its tests build and ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from autoregistry.names import MANIFEST_TYPES
from dev.lab import Docker, Registry
from dev.lab.registry import free_port
from tests.helpers.plain_http import PLAIN
from tests.integration.helpers.warm import Program

NODE_ACCEPT = ", ".join((*MANIFEST_TYPES, "*/*"))
LAST_LINES = 20
_T = TypeVar("_T")


def wait_for(condition: Callable[[], _T], what: str, seconds: float = 30) -> _T:
    """Return the condition's first true value; on timeout, fail with `what` and the last value."""
    asked = time.monotonic()
    deadline = asked + seconds
    while not (seen := condition()):
        now = time.monotonic()
        assert now < deadline, f"{what}: not within {seconds} s, last seen {seen!r}"
        # A condition that starts programs is expensive: leave two thirds of the time to the rest.
        time.sleep(min(max(0.05, 2 * (now - asked)), 1.0))
        asked = time.monotonic()
    return seen


@dataclass
class Serve:
    """One `autoregistry serve`. Images are tagged with `name`."""

    docker: Docker
    backend: str
    state: Path
    flags: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    logs: Path | None = None
    """The folder of its log; by default that of its state."""
    _process: subprocess.Popen[bytes] | Program | None = None

    @property
    def name(self) -> str:
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return (self.logs or self.state) / "serve.log"

    @property
    def log(self) -> str:
        """Its log so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        argv = ["serve", "--listen", f"127.0.0.1:{self.port}", "--backend", self.backend]
        arguments = [*argv, "--state", str(self.state), *self.flags]
        env = {**os.environ, "DOCKER_HOST": self.docker.host, **self.environment}
        with self.log_file.open("ab") as log:
            if self.environment:  # importing the package may read it, too
                cold = [sys.executable, "-m", "autoregistry", *arguments]
                nothing = subprocess.DEVNULL
                self._process = subprocess.Popen(
                    cold, stdin=nothing, stdout=log, stderr=log, env=env
                )
            else:
                self._process = Program(*arguments, env=env, output=log)
        wait_for(self._is_ready, f"autoregistry serve at {self.url}: {self.log[-2000:]}")

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-2000:]
        try:
            return self.get("/_autoregistry/health").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Send SIGTERM, as `docker stop` does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(
            f"{self.url}{path}", headers=headers, timeout=60, trust_env=False, verify=PLAIN
        )

    def pull(
        self, name: str, method: str = "HEAD", agent: str = "containerd/2.3.7", timeout: float = 120
    ) -> httpx.Response:
        """Request a manifest as a node does: `shop/api:dev` or `shop/api@sha256:...`."""
        repository, _, reference = name.rpartition("@" if "@" in name else ":")
        return httpx.request(
            method,
            f"{self.url}/v2/{repository}/manifests/{reference}",
            params={"ns": self.name},
            headers={"Accept": NODE_ACCEPT, "User-Agent": agent},
            timeout=timeout,
            trust_env=False,
            verify=PLAIN,
        )

    def resident_bytes(self) -> int:
        """Return its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


@contextmanager
def serving(
    docker: Docker,
    registry: Registry | str,
    state: Path,
    *flags: str,
    logs: Path | None = None,
) -> Iterator[Serve]:
    """Run `autoregistry serve`; the end of its log is printed if the test fails."""
    backend = registry if isinstance(registry, str) else registry.url
    serve = Serve(docker, backend, state, flags, logs=logs)
    serve.start()
    try:
        yield serve
    finally:
        serve.stop()
        tail = "\n".join(serve.log.splitlines()[-LAST_LINES:])
        print(f"--- autoregistry serve, the last {LAST_LINES} lines ---\n{tail}")


def write_hosts_toml(directory: Path, serve: Serve) -> Path:
    """Write the hosts.toml of a node that pulls through `serve`."""
    host = directory / serve.name
    host.mkdir()
    (host / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:9"\n[host."{serve.url}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    return directory


def uploads(registry: Registry, image: str) -> int:
    """Return how often the backend accepted the manifest of `shop/api:dev`, from the backend's own log.

    Refused uploads do not count: a push that collides with another one of its repository is retried.
    """
    repository, _, tag = image.rpartition(":")
    path = f"/v2/{repository}/manifests/{tag}"
    return sum(r.path == path and r.status < 300 for r in registry.requests("PUT", path))


def build(
    docker: Docker,
    reference: str,
    content: str,
    *more: str,
    random_bytes: int = 0,
    platform: str = "",
) -> str:
    """Build an image of one small file and `random_bytes` under one or more names; return its Id in Docker."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "content").write_text(content)
        (context / "Dockerfile").write_text('FROM scratch\nCOPY . /\nCMD ["/content"]\n')
        if random_bytes:
            with (context / "random").open("wb") as target:
                for _ in range(0, random_bytes, 1 << 20):
                    target.write(os.urandom(min(1 << 20, random_bytes)))
        env = {"DOCKER_BUILDKIT": "0"} if docker.store == "classic" else {}
        flags = ["--platform", platform] if platform else []
        flags += [word for name in more for word in ("--tag", name)]
        done = docker.cli("build", "--quiet", *flags, "--tag", reference, context, env=env)
    return done.stdout.strip()
