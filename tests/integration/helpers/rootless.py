"""A rootless Docker: a daemon of an ordinary user, in its own user and network namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dev.lab import Docker, LabError, debian
from dev.lab.cache import SYSTEM_PATH
from tests.integration.helpers.serving import wait_for

USER = "autoregistry-lab"
_START = "/usr/share/docker.io/contrib/dockerd-rootless.sh"
_TUN = Path("/dev/net/tun")


@contextmanager
def rootless_daemon() -> Iterator[Docker]:
    """Run one. Raises LabError where this machine cannot have it."""
    debian.install("docker.io", "rootlesskit", "uidmap", "slirp4netns", "iproute2", "iptables")
    if not _TUN.exists():
        raise LabError(f"a rootless Docker needs {_TUN}")
    _TUN.chmod(0o666)  # as udev sets it
    if subprocess.run(["id", USER], capture_output=True, check=False).returncode != 0:
        subprocess.run(
            ["useradd", "--create-home", USER], check=True
        )  # useradd also gives the user subuids
    with TemporaryDirectory(
        prefix="rootless-"
    ) as short:  # the path of a socket has at most 107 bytes
        subprocess.run(["chown", f"{USER}:", short], check=True)
        yield from _daemon(Path(short))


def _daemon(folder: Path) -> Iterator[Docker]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "sh", _START],
            env={"PATH": SYSTEM_PATH, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    docker = Docker("classic", f"unix://{folder}/docker.sock", owned=False)
    try:
        try:
            wait_for(docker.ready, "the rootless daemon")
        except AssertionError:
            raise LabError((folder / "log").read_text()[-2000:]) from None
        yield docker
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
