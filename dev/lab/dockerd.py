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
from dev.lab.cache import LOGS, RUN, locked, report, timed
from dev.lab.errors import LabError
from dev.lab.processes import Process, in_cgroup, kill_all, processes_with
from dev.lab.userdocker import Store, get_from_socket, users_docker

_READY_SECONDS = 90
_STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Docker:
    """One daemon. `owned` is false for the user's own Docker, which the lab never stops or kills."""

    store: Store
    host: str
    owned: bool

    @property
    def socket(self) -> Path:
        """The path of its socket, for clients and for the daemon's own containers."""
        return Path(self.host.removeprefix("unix://"))

    @property
    def log(self) -> Path:
        """The daemon's output."""
        return LOGS / f"docker-{self.store}.log"

    @property
    def pid(self) -> int | None:
        """The daemon's process id, while it runs."""
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a client of this daemon."""
        from dev.lab.tools import client_environment

        return client_environment(self)

    def cli(
        self,
        *args: str | Path,
        input: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGS...` with this daemon; an error quotes docker's message."""
        arguments = [str(argument) for argument in args]
        done = subprocess.run(
            ["docker", *arguments],
            input="" if input is None else input,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment, **(env or {})},
        )
        if check and done.returncode != 0:
            message = (done.stderr or done.stdout).strip()
            raise LabError(f"docker {' '.join(arguments)} exited with {done.returncode}: {message}")
        return done

    def ready(self) -> bool:
        """Return True if it answers."""
        return (
            self.host.startswith("unix://")
            and get_from_socket(str(self.socket), "/_ping") is not None
        )

    def start(self) -> None:
        """Start it if it is not running; first clean up after a killed one."""
        with self._lock():
            self._start()

    def _start(self) -> None:
        if self._process.pid is not None:
            return
        debian.need_root(f"Docker, {self.store} store")
        self._sweep()
        (RUN / self.store).mkdir(parents=True, exist_ok=True)
        command = engine_files.command(self.store)
        # A starting daemon creates the machine's iptables chains again, which would make another start fail.
        # (Rules of a running daemon wait in firewall/iptables meanwhile.)
        with locked("docker-networks", directory=RUN):
            engine_files.prepare_network(self.store)
            self._process.start(command, engine_files.environment())
            self._process.wait_until(self.ready, seconds=_READY_SECONDS)

    def stop(self) -> None:
        """Stop it and its containers; images stay."""
        with self._lock():
            self._stop()

    def _stop(self) -> None:
        self._process.stop(grace=_STOP_SECONDS)
        self._sweep()

    def restart(self) -> None:
        """Stop and start it; containers with a restart policy start again."""
        with self._lock():
            self._stop()
            self._start()

    def bring_up(self) -> None:
        """Make it answer, whatever its state; after a start it has images only."""
        with self._lock():
            self.thaw()
            if self.ready():
                return
            if self.store == "containerd":
                engine_files.new_root()
            with timed(f"starting Docker, {self.store} store", usually=8):
                self._stop()
                if self.log.exists():
                    self.log.replace(self.log.with_suffix(".previous.log"))
                self._start()
            _remove_old_objects(self)

    def leave(self) -> None:
        """Note that this process no longer uses the daemon."""
        leftovers.leave(self.store, self.cli)

    def _lock(self) -> AbstractContextManager[None]:
        """Lock the daemon: two processes that start it would each record their own process id."""
        return locked(f"docker-{self.store}", directory=RUN)

    def kill(self) -> None:
        """Send SIGKILL to the daemon; its containers keep running until the next start."""
        self._process.kill()

    def freeze(self) -> None:
        """Send SIGSTOP: connections are accepted but get no response."""
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT."""
        self._process.signal(signal.SIGCONT)

    @property
    def _process(self) -> Process:
        if not self.owned:
            raise LabError(f"{self.host} is your own Docker: the lab does not change its process")
        process = Process(f"docker-{self.store}", self.log)
        if process.pid is None:
            for pid in processes_with("dockerd", f"{RUN / self.store}/daemon.json"):
                process.adopt(pid)  # started by the lab, but its record was lost
        return process

    def _sweep(self) -> None:
        """Kill what outlived the daemon: a new one hangs while the old containerd runs."""
        exec_root = str(RUN / self.store / "exec")
        kill_all(processes_with("containerd", f"{exec_root}/containerd/containerd.toml"))
        kill_all(processes_with("containerd-shim", exec_root))
        kill_all(in_cgroup(engine_files.cgroup(self.store)))
        kill_all(processes_with("dockerd", str(RUN / self.store)))
        for name in ("docker.sock", "dockerd.pid"):
            path = RUN / self.store / name
            if path.is_dir():  # Docker creates a directory for a missing path that is mounted
                path.rmdir()
            path.unlink(missing_ok=True)
        shutil.rmtree(exec_root, ignore_errors=True)


def lab_docker(store: Store) -> Docker:
    """Return the lab's own daemon of a store, which may not be running."""
    return Docker(store, f"unix://{RUN}/{store}/docker.sock", owned=True)


def docker(store: Store) -> Docker:
    """Return a running daemon of that store: the user's own if it has this store, else the lab's."""
    users = users_docker()
    if users is not None and users.store == store:
        return Docker(store, users.host, owned=False)
    daemon = lab_docker(store)
    daemon.bring_up()
    leftovers.use(store, daemon.cli)
    return daemon


def _remove_old_objects(daemon: Docker) -> None:
    """Remove containers, volumes and networks of an earlier run: they would hold ports and state."""
    for kind, listing in (("container", ["--all"]), ("volume", [])):
        names = daemon.cli(kind, "ls", "--quiet", *listing).stdout.split()
        if names:
            report(f"removing {len(names)} {kind}s of an earlier run")
            daemon.cli(kind, "rm", "--force", *names)
    daemon.cli("network", "prune", "--force")
