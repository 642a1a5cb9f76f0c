"""Docker daemons: the classic store (Debian's 20.10) and the containerd store (28)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dev.lab import debian, engine_files, leftovers
from dev.lab.cache import LOGS, RUN, locked, say, telling
from dev.lab.errors import LabError
from dev.lab.processes import Process, in_cgroup, kill_all, naming
from dev.lab.userdocker import Store, ask, users_docker

_READY_SECONDS = 90
_STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Docker:
    """One daemon. `owned` is false for the user's own, which the lab never stops or harms."""

    store: Store
    host: str
    owned: bool

    @property
    def socket(self) -> Path:
        """Its socket, the same path for clients and for the daemon's own containers."""
        return Path(self.host.removeprefix("unix://"))

    @property
    def log(self) -> Path:
        """What the daemon prints."""
        return LOGS / f"docker-{self.store}.log"

    @property
    def pid(self) -> int | None:
        """The daemon's process, while it lives."""
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment to talk to this daemon, and no other."""
        from dev.lab.tools import client_environment

        return client_environment(self)

    def cli(
        self,
        *args: str | Path,
        input: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGS...` against it; a failure carries what docker printed."""
        words = [str(word) for word in args]
        done = subprocess.run(
            ["docker", *words],
            input="" if input is None else input,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment, **(env or {})},
        )
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"docker {' '.join(words)} ended with {done.returncode}: {said}")
        return done

    def ready(self) -> bool:
        """Whether it answers now."""
        return self.host.startswith("unix://") and ask(str(self.socket), "/_ping") is not None

    def start(self) -> None:
        """Start it if it does not run; whatever a killed one left behind goes first."""
        with self._alone():
            self._start()

    def _start(self) -> None:
        if self._process.pid is not None:
            return
        debian.need_root(f"Docker, {self.store} store")
        self._sweep()
        (RUN / self.store).mkdir(parents=True, exist_ok=True)
        command = engine_files.command(self.store)
        # A daemon that starts makes the machine's iptables chains anew: another one's start would fail just then.
        # (What a running one adds meanwhile waits in firewall/iptables.)
        with locked("docker-networks", directory=RUN):
            engine_files.prepare_network(self.store)
            self._process.start(command, engine_files.environment())
            self._process.wait_until(self.ready, seconds=_READY_SECONDS)

    def stop(self) -> None:
        """Stop it and its containers; its images stay."""
        with self._alone():
            self._stop()

    def _stop(self) -> None:
        self._process.stop(grace=_STOP_SECONDS)
        self._sweep()

    def restart(self) -> None:
        """Stop and start; containers with a restart policy come back."""
        with self._alone():
            self._stop()
            self._start()

    def bring_up(self) -> None:
        """Make it answer, from any state; one that has to be started begins with images only."""
        with self._alone():
            self.thaw()
            if self.ready():
                return
            if self.store == "containerd":
                engine_files.new_root()
            with telling(f"starting Docker, {self.store} store", usually=8):
                self._stop()
                if self.log.exists():
                    self.log.replace(self.log.with_suffix(".previous.log"))
                self._start()
            _forget(self)

    def leave(self) -> None:
        """This process uses it no more."""
        leftovers.leave(self.store, self.cli)

    def _alone(self) -> AbstractContextManager[None]:
        """Two processes that start one daemon would each record their own."""
        return locked(f"docker-{self.store}", directory=RUN)

    def kill(self) -> None:
        """SIGKILL the daemon; its containers run on until `start` sweeps them."""
        self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted and never answered."""
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.signal(signal.SIGCONT)

    @property
    def _process(self) -> Process:
        if not self.owned:
            raise LabError(f"{self.host} is your own Docker: the lab does not touch its process")
        process = Process(f"docker-{self.store}", self.log)
        if process.pid is None:
            for pid in naming("dockerd", f"{RUN / self.store}/daemon.json"):
                process.adopt(pid)  # ours by its configuration; the record was lost
        return process

    def _sweep(self) -> None:
        """End what outlived the daemon: a new one hangs while the old containerd lives."""
        here = str(RUN / self.store / "exec")
        kill_all(naming("containerd", f"{here}/containerd/containerd.toml"))
        kill_all(naming("containerd-shim", here))
        kill_all(in_cgroup(engine_files.cgroup(self.store)))
        kill_all(naming("dockerd", str(RUN / self.store)))
        for name in ("docker.sock", "dockerd.pid"):
            path = RUN / self.store / name
            if path.is_dir():  # Docker makes a directory of a missing path that is mounted
                path.rmdir()
            path.unlink(missing_ok=True)
        shutil.rmtree(here, ignore_errors=True)


def lab_docker(store: Store) -> Docker:
    """The lab's own daemon of a store, as it is now: perhaps not running."""
    return Docker(store, f"unix://{RUN}/{store}/docker.sock", owned=True)


def docker(store: Store) -> Docker:
    """A running daemon of that store: the user's own if it is one, else the lab's."""
    theirs = users_docker()
    if theirs is not None and theirs.store == store:
        return Docker(store, theirs.host, owned=False)
    daemon = lab_docker(store)
    daemon.bring_up()
    leftovers.use(store, daemon.cli)
    return daemon


def _forget(daemon: Docker) -> None:
    """Containers of an earlier life would hold ports, and its volumes a state, that tests own."""
    for kind, listing in (("container", ["--all"]), ("volume", [])):
        names = daemon.cli(kind, "ls", "--quiet", *listing).stdout.split()
        if names:
            say(f"removing {len(names)} {kind}s of an earlier run")
            daemon.cli(kind, "rm", "--force", *names)
    daemon.cli("network", "prune", "--force")
