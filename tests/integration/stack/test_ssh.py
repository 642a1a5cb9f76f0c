"""A daemon behind ssh (Debian's sshd): the proxy is reached through `docker exec`."""

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
from dev.lab import Docker, Registry, debian
from dev.lab.registry import free_port
from tests.integration.helpers.availability import or_skip
from tests.integration.helpers.command_line import CommandLine, check_every_command, exclusive_stack
from tests.integration.helpers.serving import Serve, build, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("classic")]

SSHD = "/usr/sbin/sshd"
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
    """One store is enough: the connection is the same, and slow."""
    return or_skip(lambda: lab.docker("classic"))


@pytest.fixture
def sshd_config(engine: Docker, tmp_path: Path) -> Path:
    """Configuration of an sshd that accepts the key `me`; the `ssh` in `bin` beside it offers that key."""
    try:
        debian.install("openssh-server")
    except lab.LabError as exc:
        pytest.skip(str(exc))
    for name in ("host", "me"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(keygen, check=True)
    config = tmp_path / "sshd_config"
    path = engine.environment["PATH"]
    config.write_text(
        _CONFIG.format(port=free_port(), folder=tmp_path, host=engine.host, path=path)
    )
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nexec /usr/bin/ssh -i {tmp_path}/me -o StrictHostKeyChecking=no"
        f' -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR $SSH_FLAGS "$@"\n'
    )
    program.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    return config


@pytest.fixture
def over_ssh(sshd_config: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose daemon is `ssh://root@127.0.0.1:PORT`."""
    port = int(sshd_config.read_text().split()[1])
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", sshd_config])
    try:
        wait_for(lambda: listeners(port), "sshd")
        yield {
            "DOCKER_HOST": f"ssh://root@127.0.0.1:{port}",
            "PATH": f"{sshd_config.parent / 'bin'}:{os.environ['PATH']}",
        }
    finally:
        server.terminate()
        server.wait()


def test_proxy_of_a_daemon_behind_ssh_is_reached_through_docker_exec(
    engine: Docker, sshd_config: Path
) -> None:
    """A separate network stands for another machine: ssh starts its sshd instead of connecting to it."""
    for name in ("registry:2", "python:3.13-slim"):
        lab.image(engine, name)
    environment = {
        **os.environ,
        "DOCKER_HOST": "ssh://root@far.example",
        "PATH": f"{sshd_config.parent / 'bin'}:{os.environ['PATH']}",
        "SSH_FLAGS": f"-o ProxyCommand={sshd_config.parent / 'far'}",
    }
    far = sshd_config.parent / "far"
    far.write_text(f"#!/bin/sh\nexec {SSHD} -i -f {sshd_config}\n")
    far.chmod(0o755)

    def run(*arguments: str) -> str:
        argv = ["unshare", "--net", sys.executable, "-m", "autoregistry", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0 or arguments == ("doctor",), done.stderr
        return done.stdout + done.stderr

    with exclusive_stack(engine):
        stack = CommandLine(engine)
        run("up", "--port", str(stack.port), "--docker-socket", str(engine.socket))
        host = json.loads(run("status", "--json"))["docker"]["host"]
        assert host == environment["DOCKER_HOST"]
        check_every_command(run, stack)


@pytest.mark.parametrize("flags", [(), ("--no-watch",)], ids=["automatic", "on demand"])
def test_serve_over_ssh_pushes(
    engine: Docker,
    registry: Registry,
    over_ssh: dict[str, str],
    tmp_path: Path,
    flags: tuple[str, ...],
) -> None:
    serve = Serve(engine, registry.url, tmp_path / "state", flags, environment=over_ssh)
    serve.start()
    try:
        build(engine, f"{serve.name}/ssh/app:dev", str(flags))
        if not flags:
            wait_for(lambda: "ssh/app:dev  pushed" in serve.log, "the automatic push")
        response = serve.pull("ssh/app:dev")
    finally:
        serve.stop()

    assert response.headers["Autoregistry"] == ("pushed" if flags else "up-to-date")
