"""Moments: builds, pushes and pulls on real engines, during which one fault occurs.

A seed names a run, so that a failure can be repeated. Afterwards each tag must have the image that `tag_model.py`
allows. The checks read the content of both stores, the journal's file and what the proxy still holds open, not its
messages.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from autoregistry.names import MANIFEST_TYPES
from autoregistry.settings import DOCKER_CALL_THREADS, DOCKER_LIST_THREADS, PUSH_THREADS
from dev.lab import Docker, Registry, UnavailableError, tool
from tests.integration.helpers.faults import Clock, full, locked_database
from tests.integration.helpers.serving import Serve, wait_for
from tests.integration.helpers.tag_model import DOCKER, TagModel

IMAGES = ("faults/one:dev", "faults/two:dev")
RESTING = "faults/resting:dev"
"""Pushed manually, and pulled only after a restart: no later change writes what the journal must remember of it."""
# One loop, one follower of events, and threads for work in the background.
MOST_THREADS = PUSH_THREADS + DOCKER_CALL_THREADS + DOCKER_LIST_THREADS + 10
MOST_SOCKETS_MORE = PUSH_THREADS + DOCKER_CALL_THREADS
RECOVERY_SECONDS = 60.0
# Docker retries an upload four times, after 5, 10, 15 and 20 s.
CLIENT_SECONDS = 150.0
HOUR = 3600
# A build is followed by the automatic push: moments fall into that, too.
_WINDOW = {"build": 1.6, "docker push": 1.1, "crane push": 1.1, "pull": 1.1}
_ID = re.compile(r"sha256:[0-9a-f]{64}")
JOURNAL_FAULTS = ("disk full", "journal locked", "state deleted")
# From this number of moments on, faults last as long as in `Fault.seconds`.
LONG_RUN = 50


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault."""

    share: float
    """The part of all moments that have it."""
    seconds: float = 0.0
    """The time that it lasts; 0 for a process that is started again within half a second."""
    short_seconds: float = 0.0
    """The time that it lasts in a short run."""


FAULTS = {
    "proxy killed": Fault(0.25),
    "backend killed": Fault(0.25),
    "client killed": Fault(0.12),
    "docker killed": Fault(0.10, 4, 1),
    "docker stopped": Fault(0.07, 20, 6),
    "disk full": Fault(0.04, 60, 3),
    "journal locked": Fault(0.07, 5, 2),
    "state deleted": Fault(0.06, 4, 2),
    "clock set back": Fault(0.04, 4, 1),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """An action, and the fault that begins after a part of the action's usual time."""

    number: int
    image: str
    action: str
    fault: str
    part: float
    seconds: float
    """The time until the fault is repaired."""
    megabytes: float

    def __str__(self) -> str:
        what = f"{self.action} {self.image}, {self.fault} at {self.part:.2f}"
        return f"{self.number}: {what} for {self.seconds:.1f} s"


def possible_faults(docker: Docker) -> list[str]:
    """Return the faults that can be caused on this machine."""
    faults = list(FAULTS)
    if not docker.owned:  # the user's own
        faults = [fault for fault in faults if not fault.startswith("docker")]
    if os.geteuid() != 0:
        faults.remove("disk full")
    try:
        Clock(Path(os.devnull))
    except UnavailableError as exc:
        print(f"no moment sets the clock back: {exc}")
        faults.remove("clock set back")
    return faults


def moments(seed: str, count: int, faults: list[str]) -> Iterator[Moment]:
    """Yield about `count` moments of a seed: each fault by its share, and at least once."""
    rng = random.Random(seed)  # noqa: S311 - it must be repeatable
    shares = sum(FAULTS[fault].share for fault in faults)
    deck = [f for f in faults for _ in range(max(1, round(count * FAULTS[f].share / shares)))]
    rng.shuffle(deck)
    for number, name in enumerate(deck):
        fault, action = FAULTS[name], rng.choice(list(_WINDOW))
        lasting = fault.seconds if count >= LONG_RUN else fault.short_seconds
        part, pause = rng.random() * _WINDOW[action], rng.random() / 2
        yield Moment(
            number, rng.choice(IMAGES), action, name, part, lasting or pause, rng.random() * 6
        )


@dataclass
class _Client:
    """One run of a real client."""

    image: str
    action: str
    process: subprocess.Popen[bytes]
    log: Path
    digest: str
    """The digest of the image that it pushes, if Docker does not have that."""


@dataclass
class Soak:
    """One Docker, one registry and one proxy, and the moments they go through."""

    docker: Docker
    registry: Registry
    serve: Serve
    folder: Path
    models: dict[str, TagModel] = field(default_factory=lambda: defaultdict(TagModel))
    usual: dict[str, float] = field(default_factory=dict)
    sockets: int = 0
    tasks: int = 0

    def warm_up(self) -> None:
        """Do each action once without a fault; note its time and what the proxy holds open afterwards."""
        others = [(IMAGES[1], "build"), (RESTING, "build"), (RESTING, "crane push")]
        for image, action in [*others, *((IMAGES[0], action) for action in _WINDOW)]:
            began = time.monotonic()
            client = self._start(image, action, 3, action)
            assert self._finish(client), f"{action}: {client.log.read_text()[-500:]}"
            self.usual[action] = time.monotonic() - began
        self.check()
        self.sockets, self.tasks = self._open_files(), self._tasks()

    def run_moment(self, moment: Moment) -> None:
        """Start the action, cause the fault, repair it, and check the stores."""
        with self._clock(moment) as clock:
            client = self._start(moment.image, moment.action, moment.megabytes, str(moment))
            with suppress(subprocess.TimeoutExpired):
                client.process.wait(self.usual[moment.action] * moment.part)
            if FAULTS[moment.fault].seconds:
                with self._others_work(moment), self._fault(moment, client.process, clock):
                    if moment.fault in ("disk full", "journal locked"):
                        self._push_resting(str(moment))
                    time.sleep(moment.seconds)
            else:
                with self._fault(moment, client.process, clock):
                    time.sleep(moment.seconds)
            self._finish(client)
            if moment.fault in JOURNAL_FAULTS:
                self._check_journal()
                self.serve.kill()
                self.serve.start()
                self._check_tag(RESTING)
            self.check()

    @contextmanager
    def _fault(
        self, moment: Moment, client: subprocess.Popen[bytes], clock: Clock | None
    ) -> Iterator[None]:
        """Cause a fault, and repair it at the end."""
        match moment.fault:
            case "proxy killed":
                self.serve.kill()
                yield
                self.serve.start()
            case "backend killed":
                self.registry.kill()
                yield
                self.registry.start()
            case "docker killed":
                self.docker.kill()
                try:
                    yield
                finally:
                    self.docker.start()
            case "docker stopped":
                self.docker.freeze()
                try:
                    yield
                finally:
                    self.docker.thaw()
            case "disk full":
                with full(self.serve.state.parent):
                    yield
            case "journal locked":
                with locked_database(self._database()):
                    yield
            case "state deleted":
                shutil.rmtree(self.serve.state)
                yield
            case "clock set back":
                assert clock is not None
                self._push_resting(f"{moment}, before")
                clock.set(clock.seconds - HOUR)
                self._tag_resting_again()
                self._push_resting(f"{moment}, after")
                yield
            case _:
                client.kill()
                yield

    def _push_resting(self, seed: str) -> None:
        assert self._finish(self._start(RESTING, "crane push", 0.1, seed))

    def _tag_resting_again(self) -> None:
        """Let Docker report an image that it has had since before the last manual push."""
        reference = f"{self.serve.name}/{RESTING}"
        self.docker.cli("tag", reference, reference)
        self.models[RESTING].built(self._docker_identity(RESTING))
        self._check_tag(RESTING)

    @contextmanager
    def _clock(self, moment: Moment) -> Iterator[Clock | None]:
        """Run the proxy with a clock that can be set, if the moment needs it.

        The clock is set back to that of Docker, or to one hour before it.
        """
        if moment.fault != "clock set back":
            yield None
            return
        clock = Clock(self.folder / "clock")
        clock.set(HOUR if moment.number % 2 else 0)
        self._restart(clock.environment)
        try:
            yield clock
        finally:
            self._restart({})

    def _restart(self, environment: dict[str, str]) -> None:
        self.serve.stop()
        self.serve.environment = environment
        self.serve.start()
        self._wait_until_idle()

    @contextmanager
    def _others_work(self, moment: Moment) -> Iterator[None]:
        """Meanwhile, build the other image, push it manually and pull it, again and again."""
        (image,) = set(IMAGES) - {moment.image}
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                for action in ("build", "crane push", "pull", "docker push"):
                    seed = f"{moment}/{number}"
                    self._finish(self._start(image, action, moment.megabytes / 4, seed))
                    self._check_served(image)
                    number += 1
                    if stop.is_set():
                        break

        with ThreadPoolExecutor(1) as executor:
            working = executor.submit(work)
            try:
                yield
            finally:
                stop.set()
            working.result()

    def _start(self, image: str, action: str, megabytes: float, seed: str) -> _Client:
        folder = self.folder / image.replace("/", "-").replace(":", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        reference, digest = f"{self.serve.name}/{image}", ""
        match action:
            case "build":
                _write_context(folder, megabytes, seed)
                command = ["docker", "build", "--quiet", "--tag", reference, str(folder)]
            case "docker push":
                command = ["docker", "push", "--quiet", reference]
            case "crane push":
                digest = _write_image(folder, megabytes, seed)
                command = [str(tool("crane")), "push", str(folder / "image.tar"), reference]
            case _:
                pulled = str(folder / "pulled.tar")
                command = [str(tool("crane")), "pull", "--insecure", reference, pulled]
        env = {**os.environ, **self.docker.environment}
        if self.docker.store == "classic":
            env["DOCKER_BUILDKIT"] = "0"
        path = folder.with_suffix(".log")
        with path.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        return _Client(image, action, process, path, digest)

    def _finish(self, client: _Client) -> bool:
        """Wait for the client's end, and tell the model what it has changed. Return False if it failed."""
        try:
            has_succeeded = client.process.wait(CLIENT_SECONDS) == 0
        except subprocess.TimeoutExpired:
            client.process.kill()
            client.process.wait()
            raise
        model = self.models[client.image]
        match client.action:
            case "build":
                if has_succeeded:
                    model.built(_ID.findall(client.log.read_text())[-1])
                else:
                    model.build_failed()
            case "docker push" | "crane push":
                model.pushed_manually(client.digest or DOCKER, has_succeeded=has_succeeded)
        return has_succeeded

    def _check_served(self, image: str) -> None:
        """Check that a pull during a fault is not given an old image."""
        if not (expected := self.models[image].expected()):
            return
        response = self.serve.pull(image, "GET", agent="crane", timeout=CLIENT_SECONDS)
        answer = response.headers.get("Autoregistry")
        if response.status_code == 200 and answer != "docker-unreachable":
            assert expected in _identities(response), f"{image}: {answer}, not {expected}"

    def check(self) -> None:
        """Check what must hold after every moment, once all processes are up again."""
        for image in IMAGES:
            self._check_tag(image)
        assert self.models[RESTING].expected() in self._in_registry(RESTING)
        self._check_every_tag()
        self._check_journal()
        self._check_threads()

    def _check_tag(self, image: str) -> None:
        """Check that the registry gets an image that the model allows before a client asks, and keeps it."""
        model = self.models[image]
        self._wait_until_idle()
        docker = wait_for(lambda: self._docker_identity(image), f"Docker to have {image}")
        allowed = model.allowed(docker)
        what = f"{image}: {allowed} expected, Docker has {docker}, {self.serve.log[-800:]}"

        def has_changed() -> bool:
            """A build whose client was killed at its end may set the tag only now."""
            return docker != self._docker_identity(image)

        def is_delivered() -> bool:
            """A registry that was killed while it wrote a link answers 500 until a pull has repaired it."""
            registry = self._ask_registry(image)
            return registry.status_code >= 500 or bool(_identities(registry) & allowed)

        wait_for(lambda: is_delivered() or has_changed(), what, RECOVERY_SECONDS)
        response = self.serve.pull(image, "GET", agent="crane", timeout=CLIENT_SECONDS)
        assert response.status_code == 200, f"{response.reason_phrase}; {what}"
        seen = _identities(response) & self._in_registry(image) & allowed
        if has_changed():
            self._check_tag(image)
            return
        assert seen, f"the pull got {_identities(response)}; {what}"
        model.settle(docker, docker if docker in seen else seen.pop())

    def _docker_identity(self, image: str) -> str:
        inspect = ("image", "inspect", "--format", "{{.Id}}", f"{self.serve.name}/{image}")
        return self.docker.cli(*inspect, check=False).stdout.strip()

    def _ask_registry(self, image: str) -> httpx.Response:
        """Request a manifest from the registry, without asking the proxy."""
        repository, _, tag = image.partition(":")
        return httpx.get(
            f"{self.registry.url}/v2/{repository}/manifests/{tag}",
            headers={"Accept": ", ".join(MANIFEST_TYPES)},
            trust_env=False,
            timeout=30,
        )

    def _in_registry(self, image: str) -> set[str]:
        return _identities(self._ask_registry(image))

    def _check_every_tag(self) -> None:
        """Check every tag in the registry, to the last byte of the last layer."""
        with httpx.Client(base_url=self.registry.url, trust_env=False, timeout=30) as client:
            for image in self.models:
                repository = image.partition(":")[0]
                listed = client.get(f"/v2/{repository}/tags/list")
                for tag in (listed.json().get("tags") or []) if listed.is_success else []:
                    read_whole(client, repository, tag)

    def _check_journal(self) -> None:
        """Check that the journal on disk is whole, and has the registry's digest of each tag. No tag is pulled."""

        def is_written() -> bool:
            return all(self._digest_in_journal(i) in self._in_registry(i) for i in self.models)

        self._wait_until_idle()
        wait_for(is_written, "the journal to be written")
        unexpected = [
            p.name for p in self.serve.state.rglob("*") if "damaged" in p.name or ".tmp" in p.name
        ]
        assert not unexpected, unexpected

    def _database(self) -> Path:
        (file,) = self.serve.state.rglob("*.sqlite")
        return file

    def _digest_in_journal(self, image: str) -> str:
        """Read a copy of the journal, so that a concurrent write is not disturbed."""
        query = "SELECT registry_digest FROM tag_records WHERE repository = ? AND tag = ?"
        with tempfile.TemporaryDirectory() as copy:
            for file in self.serve.state.rglob("*.sqlite*"):
                with suppress(FileNotFoundError):
                    shutil.copy(file, copy)
            for file in Path(copy).glob("*.sqlite"):
                with closing(sqlite3.connect(file)) as db:
                    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok", file.name
                    row = db.execute(query, image.split(":")).fetchone()
                    return str(row[0]) if row else ""
        return ""

    def _wait_until_idle(self) -> None:
        """Wait until no push runs and Docker's events are followed."""

        def is_idle() -> bool:
            metrics = self.serve.get("/_autoregistry/metrics").text
            return "pushes_running 0" in metrics and "docker_events_connected 1" in metrics

        wait_for(is_idle, "all pushes to end", CLIENT_SECONDS)

    def _check_threads(self) -> None:
        """Check that no push runs and that there are no more threads than in an idle proxy."""
        self._wait_until_idle()
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


def _write_context(folder: Path, megabytes: float, seed: str) -> None:
    """Create the context of a build of two layers: the second is new each time, the first rarely."""
    often, rarely = random.Random(seed), random.Random(len(seed))  # noqa: S311 - repeatable
    (folder / "often").write_bytes(often.randbytes(int(megabytes * 1e6)))
    (folder / "rarely").write_bytes(rarely.randbytes(1_000_000))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY rarely /\nCOPY often /\nCMD x\n")


def _write_image(folder: Path, megabytes: float, seed: str) -> str:
    """Create an image that Docker does not have, and return its digest."""
    _write_context(folder, megabytes, seed)
    with tarfile.open(folder / "layer.tar", "w") as layer:
        layer.add(folder / "often", "often")
    crane, image = str(tool("crane")), str(folder / "image.tar")
    layers = ["--new_layer", str(folder / "layer.tar"), "--new_tag", "other:dev"]
    subprocess.run([crane, "append", *layers, "--output", image], check=True, capture_output=True)
    digest = [crane, "digest", "--tarball", image]
    done = subprocess.run(digest, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _identities(response: httpx.Response) -> set[str]:
    """Return the digest of a manifest and that of its config, which is Docker's Id on the classic store.

    Return nothing for an error response.
    """
    if response.status_code != 200:
        return set()
    config = response.json().get("config", {}).get("digest")
    return {response.headers["Docker-Content-Digest"], config} - {None}


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
