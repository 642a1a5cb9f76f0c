"""Moments: a build, a push or a pull on real engines, during which one process is killed with SIGKILL.

A seed names a run, so that a failure can be repeated. The checks read only the content of both stores afterwards and
what the proxy still holds open, not its messages.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from autoregistry.names import MANIFEST_TYPES
from autoregistry.settings import DOCKER_CALL_THREADS, DOCKER_LIST_THREADS, PUSH_THREADS
from dev.lab import Docker, Registry, tool
from tests.integration.helpers.serving import Serve, wait_for

IMAGES = ("faults/one:dev", "faults/two:dev")
# One loop, one follower of events, and threads for work in the background.
MOST_THREADS = PUSH_THREADS + DOCKER_CALL_THREADS + DOCKER_LIST_THREADS + 10
MOST_SOCKETS_MORE = PUSH_THREADS + DOCKER_CALL_THREADS
RECOVERY_SECONDS = 60.0
# Docker retries an upload four times, after 5, 10, 15 and 20 s.
CLIENT_SECONDS = 150.0
# A build is followed by the automatic push: moments fall into that, too.
_WINDOW = {"build": 1.6, "push": 1.1, "pull": 1.1}
_VICTIMS = {"proxy": 4, "backend": 4, "client": 2, "docker": 1}


@dataclass(frozen=True, slots=True)
class Moment:
    """An action, and the process that is killed after a part of the action's usual time."""

    number: int
    image: str
    action: str
    victim: str
    part: float
    pause: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.number}: {self.action} {self.image}, {self.victim} killed at {self.part:.2f}"


def moments(seed: str, count: int, most_docker: int) -> Iterator[Moment]:
    """Yield the moments of a seed; Docker itself is killed at most `most_docker` times."""
    rng = random.Random(seed)  # noqa: S311 - it must be repeatable
    for number in range(count):
        victim = rng.choices(list(_VICTIMS), list(_VICTIMS.values()))[0]
        last = most_docker and number == count - 1
        if victim == "docker" or last:
            victim, most_docker = ("docker", most_docker - 1) if most_docker else ("proxy", 0)
        action = rng.choice(list(_WINDOW))
        part = rng.random() * _WINDOW[action]
        yield Moment(
            number, rng.choice(IMAGES), action, victim, part, rng.random() / 2, rng.random() * 6
        )


@dataclass
class Soak:
    """One Docker, one registry and one proxy, and the moments they go through."""

    docker: Docker
    registry: Registry
    serve: Serve
    folder: Path
    usual: dict[str, float] = field(default_factory=dict)
    sockets: int = 0
    tasks: int = 0

    def warm_up(self) -> None:
        """Do each action once without a kill; note its time and what the proxy holds open afterwards."""
        for action in _WINDOW:
            began = time.monotonic()
            with self._begin(Moment(-1, IMAGES[0], action, "", 0, 0, 3)) as process:
                assert process.wait(60) == 0, f"{action}: {self._client_log()}"
            self.usual[action] = time.monotonic() - began
        self.check()
        self.sockets, self.tasks = self._open_files(), self._tasks()

    def run_moment(self, moment: Moment) -> None:
        """Begin the action, kill the process, start it again, and check the stores."""
        with self._begin(moment) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.usual[moment.action] * moment.part)
            self._kill(moment.victim, process, moment.pause)
            try:
                process.wait(CLIENT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        self.check()

    def _kill(self, victim: str, client: subprocess.Popen[bytes], pause: float) -> None:
        match victim:
            case "proxy":
                self.serve.kill()
                time.sleep(pause)
                self.serve.start()
            case "backend":
                self.registry.kill()
                time.sleep(pause)
                self.registry.start()
            case "docker":
                self.docker.kill()
                time.sleep(pause)
                self.docker.start()
            case _:
                client.kill()

    def _begin(self, moment: Moment) -> subprocess.Popen[bytes]:
        reference = f"{self.serve.name}/{moment.image}"
        match moment.action:
            case "build":
                command = [
                    "docker",
                    "build",
                    "--quiet",
                    "--tag",
                    reference,
                    str(self._context(moment)),
                ]
            case "push":
                command = ["docker", "push", "--quiet", reference]
            case _:
                pulled = str(self.folder / "pulled.tar")
                command = [str(tool("crane")), "pull", "--insecure", reference, pulled]
        env = {**os.environ, **self.docker.environment}
        if self.docker.store == "classic":
            env["DOCKER_BUILDKIT"] = "0"
        with (self.folder / "client.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=env)

    def _client_log(self) -> str:
        return (self.folder / "client.log").read_text()[-500:]

    def _context(self, moment: Moment) -> Path:
        """Create two layers: the second is new each time, the first every third time."""
        context = self.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        rng = random.Random(f"{moment}{moment.megabytes}")  # noqa: S311 - as above
        for name, size in (("often", moment.megabytes), ("seldom", 1.0)):
            content = random.Random(moment.number // 3) if name == "seldom" else rng  # noqa: S311
            (context / name).write_bytes(content.randbytes(int(size * 1e6)))
        (context / "Dockerfile").write_text("FROM scratch\nCOPY seldom /\nCOPY often /\nCMD x\n")
        return context

    def check(self) -> None:
        """Check what must hold after every moment, once all processes are up again."""
        for image in IMAGES:
            self._check_pull(image)
        self._check_every_tag()
        self._check_journal()
        self._check_threads()

    def _check_pull(self, image: str) -> None:
        """Check that pulls get Docker's image; until it is available they are refused, never given another."""
        reference = f"{self.serve.name}/{image}"

        def identity() -> str:
            inspect = ("image", "inspect", "--format", "{{.Id}}", reference)
            return self.docker.cli(*inspect, check=False).stdout.strip()

        if not (before := identity()):
            return

        def respond() -> httpx.Response | None:
            response = self.serve.pull(image, "GET", agent="crane")
            if response.headers.get("Autoregistry") == "docker-unreachable":
                return None
            return response if response.status_code == 200 else None

        response = wait_for(respond, f"{image}: {self.serve.log[-500:]}", RECOVERY_SECONDS)
        assert response is not None
        manifest = response.json()
        pulled = {
            response.headers["Docker-Content-Digest"],
            manifest.get("config", {}).get("digest"),
        }
        # A build whose client was killed at its end may set the tag only now.
        built = {before, identity()}
        assert built & pulled, f"{image}: Docker has {built}, the pull got {pulled}"

    def _check_every_tag(self) -> None:
        """Check every tag in the registry, to the last byte of the last layer."""
        with httpx.Client(base_url=self.registry.url, trust_env=False, timeout=30) as client:
            for image in IMAGES:
                repository = image.partition(":")[0]
                listed = client.get(f"/v2/{repository}/tags/list")
                for tag in (listed.json().get("tags") or []) if listed.is_success else []:
                    read_whole(client, repository, tag)

    def _check_journal(self) -> None:
        """Check the files on disk, in a copy, so that a concurrent write is not disturbed."""
        with tempfile.TemporaryDirectory() as copy:
            for file in self.serve.state.glob("*.sqlite*"):
                shutil.copy(file, copy)
            for file in Path(copy).glob("*.sqlite"):
                with closing(sqlite3.connect(file)) as db:
                    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok", file.name
        unexpected = [
            p.name for p in self.serve.state.iterdir() if "damaged" in p.name or ".tmp" in p.name
        ]
        assert not unexpected, unexpected

    def _check_threads(self) -> None:
        """Check that no push runs and that there are no more threads than in an idle proxy."""
        metrics = "/_autoregistry/metrics"
        wait_for(lambda: "pushes_running 0" in self.serve.get(metrics).text, "all pushes to end")
        status = Path(f"/proc/{self.serve.pid}/status").read_text()
        threads = int(status.partition("Threads:")[2].split()[0])
        assert threads <= MOST_THREADS, f"{threads} threads"

    def check_nothing_is_open(self) -> None:
        """Check open files and tasks at the end, once idle connections have been closed."""
        most = self.sockets + MOST_SOCKETS_MORE
        wait_for(lambda: self._open_files() <= most, f"no more than {most} open files", 60)
        wait_for(lambda: self._tasks() <= self.tasks, f"no more than {self.tasks} tasks", 100)

    def _tasks(self) -> int:
        """Return the number of tasks of its event loop; each open connection is one."""
        metrics = self.serve.get("/_autoregistry/metrics").text
        return int(float(metrics.partition("\nautoregistry_tasks ")[2].split()[0]))

    def _open_files(self) -> int:
        return len(list(Path(f"/proc/{self.serve.pid}/fd").iterdir()))


def read_whole(client: httpx.Client, repository: str, reference: str) -> None:
    """Read an image to its last byte; fail if a part is missing or has another digest than its name."""
    path = f"/v2/{repository}/manifests/{reference}"
    response = client.get(path, headers={"Accept": ", ".join(MANIFEST_TYPES)})
    assert response.status_code == 200, f"{path}: {response.status_code} {response.text[:200]}"
    manifest: dict[str, Any] = response.json()
    for child in manifest.get("manifests", []):
        read_whole(client, repository, child["digest"])
    config = [manifest["config"]] if "config" in manifest else []
    for part in [*manifest.get("layers", []), *config]:
        path = f"/v2/{repository}/blobs/{part['digest']}"
        response = client.get(path)
        assert response.status_code == 200, f"{path}: {response.status_code}"
        digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
        assert digest == part["digest"], f"{path} has other bytes, {len(response.content)} of them"
