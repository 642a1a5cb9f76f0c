"""A daemon that is reached by ssh only (Debian's sshd), and whose ports are asked through `docker exec`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoregistry.stack.ports import listeners
from dev import lab
from dev.lab import Docker, debian
from dev.lab.registry import free_port
from tests.engines.conftest import _or_skip
from tests.engines.serving import wait_for
from tests.engines.test_stack import only_stack

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("containerd")]

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/me.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
SetEnv DOCKER_HOST={host} PATH={path}
"""


@pytest.fixture(scope="module")
def engine() -> Docker:
    """One store is enough: the road is the same, and slow."""
    return _or_skip(lambda: lab.docker("containerd"))


@pytest.fixture
def over_ssh(engine: Docker, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user to whom the daemon is `ssh://root@127.0.0.1:PORT`."""
    try:
        debian.install("openssh-server")
    except lab.LabError as exc:
        pytest.skip(str(exc))
    port = free_port()
    for name in ("host", "me"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(keygen, check=True)
    config = tmp_path / "sshd_config"
    path = engine.environment["PATH"]
    config.write_text(_CONFIG.format(port=port, folder=tmp_path, host=engine.host, path=path))
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nexec /usr/bin/ssh -i {tmp_path}/me -o StrictHostKeyChecking=no"
        f' -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"\n'
    )
    program.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config])
    try:
        wait_for(lambda: listeners(port), "sshd")
        yield {
            **os.environ,
            "DOCKER_HOST": f"ssh://root@127.0.0.1:{port}",
            "PATH": f"{program.parent}:{os.environ['PATH']}",
        }
    finally:
        server.terminate()
        server.wait()


def test_a_daemon_behind_ssh_gets_the_same_stack(engine: Docker, over_ssh: dict[str, str]) -> None:
    for name in ("registry:2", "python:3.13-slim"):
        lab.image(engine, name)

    def typed(*words: str) -> str:
        argv = [sys.executable, "-m", "autoregistry", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=over_ssh)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with only_stack(engine):
        typed("up", "--port", str(free_port()), "--docker-socket", str(engine.socket))
        assert "nothing had to change" in typed("up")
        told = json.loads(typed("status", "--json"))
        log = typed("logs")

    assert told["docker"]["host"] == over_ssh["DOCKER_HOST"]
    assert (told["proxy"]["docker"], told["proxy"]["backend"]) == ("ok", "ok")
    assert "is served at" in log
