"""A Docker with its own localhost: a daemon in its own network namespace, as in a virtual machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dev import lab
from dev.lab import Docker, engine_files
from tests.integration.helpers.serving import wait_for

_START = 'mount --make-rshared / && ip link set lo up && exec dockerd --config-file "$0"'


@contextmanager
def separate_daemon() -> Iterator[Docker]:
    """Run a third daemon, of the classic store: it starts in a second and can push without a bridge."""
    lab.docker("classic")  # installs its programs
    with TemporaryDirectory(
        prefix="separate-"
    ) as short:  # the path of a socket has at most 107 bytes
        yield from _daemon(Path(short))


def _daemon(folder: Path) -> Iterator[Docker]:
    config = folder / "daemon.json"
    config.write_text(
        json.dumps(
            {
                "hosts": [f"unix://{folder}/docker.sock"],
                "data-root": f"{folder}/data",
                "exec-root": f"{folder}/exec",
                "pidfile": f"{folder}/pid",
                "bridge": "none",
                "iptables": False,
                "shutdown-timeout": 1,
            }
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", _START, config],
            env=engine_files.environment(),
            stdout=log,
            stderr=log,
        )
    docker = Docker("classic", f"unix://{folder}/docker.sock", owned=False)
    try:
        wait_for(docker.ready, "the separate daemon")
        yield docker
    finally:
        process.terminate()
        process.wait(30)
