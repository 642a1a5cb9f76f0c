"""The exact output of `up`, `status`, `down`, `logs` and `generate compose`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import pytest
import yaml

from autoregistry import __version__
from autoregistry.cli import program
from tests.fakes.engine import IDENTITY, FakeEngine
from tests.helpers.commands import IMAGE, PORT, Type

HEALTH = {"version": __version__, "docker": "ok", "backend": "ok"}
PUSH = {
    "type": "push-finished",
    "image": "shop/api:dev",
    "identity": "sha256:1",
    "digest": "sha256:0123456789abcdef",
    "pushed_bytes": 12_300_000,
    "seconds": 0.4,
}
NODE_FILE = '[host."http://autoregistry:5000"]\n'


def _ran(argv: list[str]) -> tuple[int, str]:
    if argv[0] == "du":
        return 0, "1200\t/var/lib/registry\n"
    if argv[0] == "sh":
        return 0, f"== localhost:{PORT}\n{NODE_FILE}"
    if argv[-2] == "/_autoregistry/health":
        return 0, f"200\n{json.dumps(HEALTH)}"
    return 0, f"200\n{json.dumps({'pushes': [PUSH]})}"


@pytest.fixture
def up(engine: FakeEngine, typed: Type) -> FakeEngine:
    """An engine on which the stack runs."""
    engine.run = _ran
    assert typed("up", "--port", PORT).exit_code == 0
    return engine


def _node(engine: FakeEngine, cluster: str) -> None:
    name = f"k3d-{cluster}-server-0"
    engine.containers[name] = {
        "Id": name,
        "Name": f"/{name}",
        "Image": "sha256:k3s",
        "Config": {
            "Image": "rancher/k3s",
            "Labels": {"app": "k3d", "k3d.cluster": cluster, "k3d.role": "server"},
        },
        "HostConfig": {},
        "State": {"Status": "running"},
        "NetworkSettings": {"Networks": {f"k3d-{cluster}": {"IPAddress": "10.0.0.3"}}},
    }


def test_up_prints_the_next_commands(typed: Type) -> None:
    first, again = typed("up", "--port", PORT), typed("up")

    assert first.stdout == (
        "localhost:5149 is up. Next:\n"
        "\n"
        "  autoregistry cluster create dev\n"
        "  docker build -t localhost:5149/app:dev .\n"
        "  kubectl create deployment app --image localhost:5149/app:dev\n"
    )
    assert again.stdout == "localhost:5149 is up, nothing had to change\n"


def test_up_without_a_terminal_prints_plain_lines(engine: FakeEngine, typed: Type) -> None:
    assert typed("up", "--port", PORT).stderr.splitlines() == [
        f"Docker  28.5.2, containerd store, at {engine.host}",
        f"image {IMAGE} ...",
        f"image {IMAGE} step 1/1: RUN pip",
        f"image {IMAGE}  built",
        "Docker's socket ...",
        "Docker's socket  /var/run/docker.sock, used as user 65532, group 998",
        "network autoregistry  created",
        "volume autoregistry-data  created",
        "volume autoregistry-state  created",
        "autoregistry-backend ...",
        "autoregistry ...",
        "autoregistry-backend  created, healthy",
        "autoregistry  created, healthy",
    ]


def test_up_warns_before_it_exposes_the_port(typed: Type) -> None:
    assert typed("up", "--port", PORT, "--expose").stderr.startswith(
        "warning: with --expose, any client that can reach this machine can read and replace the images"
    )


def test_new_port_lists_the_clusters_that_use_the_old_name(up: FakeEngine, typed: Type) -> None:
    for cluster in ("dev", "other", "asleep"):
        _node(up, cluster)
    up.containers["k3d-asleep-server-0"]["State"] = {"Status": "exited"}
    for cluster in ("dev", "asleep"):
        up.containers["autoregistry"]["NetworkSettings"]["Networks"][f"k3d-{cluster}"] = {}

    assert "`autoregistry cluster attach dev`" in typed("up", "--port", "5148").stderr
    assert "cluster attach" not in typed("up").stderr


def test_status_has_stable_json(up: FakeEngine, typed: Type) -> None:
    _node(up, "dev")

    assert json.loads(typed("status", "--json").stdout) == {
        "name": "localhost:5149",
        "published": ["127.0.0.1:5149"],
        "run_by": "autoregistry",
        "start": "autoregistry up",
        "version": __version__,
        "docker": {
            "host": up.host,
            "identity": IDENTITY,
            "name": "machine",
            "version": "28.5.2",
            "store": "containerd",
        },
        "containers": [
            {
                "name": "autoregistry",
                "state": "running",
                "health": "healthy",
                "image": IMAGE,
                "version": __version__,
            },
            {
                "name": "autoregistry-backend",
                "state": "running",
                "health": "healthy",
                "image": "registry:2",
                "version": "",
            },
        ],
        "proxy": HEALTH,
        "clusters": [
            {
                "name": "dev",
                "nodes": 1,
                "running": 1,
                "attached": 1,
                "via": "Docker's network, which the registry is not on",
            }
        ],
        "nodes": [],
        "disk_bytes": 1200 * 1024,
        "pushes": [PUSH],
    }


def test_status_fits_80_columns(up: FakeEngine, typed: Type) -> None:
    _node(up, "dev")
    _node(up, "other")
    up.containers["autoregistry"]["NetworkSettings"]["Networks"]["k3d-dev"] = {}
    lines = typed("status").stdout.splitlines()

    assert lines == [
        "  registry             localhost:5149  on 127.0.0.1:5149",
        f"  Docker               28.5.2, containerd store, {up.host}",
        f"✓ autoregistry         running, healthy, {IMAGE}",
        "✓ autoregistry-backend running, healthy, registry:2",
        "✓ cluster dev          1 of 1 nodes attached, via Docker's network",
        "✗ cluster other        not connected; run: autoregistry cluster attach other",
        "  disk                 1.2 MB",
        "  pushed               shop/api:dev  12.3 MB  sha256:0123456789ab",
    ]
    assert max(len(line) for line in lines) <= 80


def test_status_shows_a_journal_and_background_work_that_fail(up: FakeEngine, typed: Type) -> None:
    health = {
        **HEALTH,
        "journal": "database or disk is full",
        "background": {"network-repair": "KeyError: 'Id'"},
    }
    up.run = lambda argv: (
        (0, f"200\n{json.dumps(health)}") if argv[-2].endswith("/health") else _ran(argv)
    )

    lines = typed("status").stdout.splitlines()

    assert lines[4:6] == [
        "✗ proxy's journal      database or disk is full",
        "✗ background           network-repair: KeyError: 'Id'",
    ]
    assert json.loads(typed("status", "--json").stdout)["proxy"] == health


def test_status_without_a_stack_names_the_command(typed: Type) -> None:
    lines = typed("status").stdout.splitlines()

    assert lines[2:] == [
        "✗ autoregistry         absent",
        "✗ autoregistry-backend absent",
        "the registry is not working; run: autoregistry up",
    ]


def test_down_prints_the_command_to_start_again(up: FakeEngine, typed: Type) -> None:
    assert typed("down").stdout == (
        "removed; the pushed images are kept for the next `autoregistry up --port 5149`\n"
    )
    assert typed("down").stdout == "nothing was running\n"
    assert "autoregistry-data" in up.volumes


@pytest.mark.parametrize(
    ("answer", "exit_code", "left"),
    [("n\n", 1, True), ("", 1, True), ("y\n", 0, False)],
    ids=["no", "no terminal", "yes"],
)
def test_down_asks_before_it_removes_volumes(
    up: FakeEngine, typed: Type, answer: str, exit_code: int, *, left: bool
) -> None:
    done = typed("down", "--volumes", input=answer)

    assert done.exit_code == exit_code
    assert ("autoregistry-data" in up.volumes) is left
    if left:
        assert "hint: autoregistry down --volumes --yes" in done.stderr


def test_volumes_can_be_removed_after_the_containers(up: FakeEngine, typed: Type) -> None:
    typed("down")

    assert typed("down", "--volumes", "--yes").stdout == (
        "removed, with all pushed images; `autoregistry up` starts empty\n"
    )
    assert "autoregistry-data" not in up.volumes


def test_status_of_a_proxy_without_pushes_has_none(up: FakeEngine, typed: Type) -> None:
    up.run = lambda argv: (0, "400\nno") if argv[-2].endswith("/status") else _ran(argv)

    assert json.loads(typed("status", "--json").stdout)["pushes"] == []


def test_logs_prints_the_proxys_log(up: FakeEngine, typed: Type) -> None:
    up.log = "shop/api:dev  up to date\n"

    assert typed("logs").stdout == up.log
    typed("down")
    assert typed("logs").stderr == (
        "error: autoregistry is not running, so there is no log\nhint: autoregistry up\n"
    )


# A background process of a script ignores SIGINT, and so do its children.
_HANDLES_SIGINT = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("autoregistry", run_name="__main__")
"""


@contextmanager
def _following() -> Iterator[subprocess.Popen[str]]:
    """`logs -f` in a process of its own, which is killed after 30 seconds."""
    words = (sys.executable, "-c", _HANDLES_SIGINT, "logs", "-f")
    piped = subprocess.PIPE
    with subprocess.Popen(words, stdout=piped, stderr=piped, text=True) as process:
        deadline = threading.Timer(30, process.kill)
        deadline.start()
        yield process
        deadline.cancel()


def test_logs_follows_until_the_proxy_ends(up: FakeEngine) -> None:
    up.log = "shop/api:dev  up to date\n"

    with _following() as process:
        assert process.stdout
        assert process.stdout.readline() == up.log
        up.later_output.put("shop/api:dev  it differs")
        up.later_output.put(": pushing\n")
        assert process.stdout.readline() == "shop/api:dev  it differs: pushing\n"
        up.later_output.put("")
        rest, errors = process.communicate()

    assert (process.returncode, rest, errors) == (0, "", "")


def test_logs_follows_until_it_is_interrupted(up: FakeEngine) -> None:
    up.log = "shop/api:dev  up to date\n"

    with _following() as process:
        assert process.stdout
        assert process.stdout.readline() == up.log
        while process.poll() is None:
            # Python may miss the first signal if it comes just before it waits for Docker.
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
        rest, errors = process.communicate()
    up.later_output.put("")

    assert (process.returncode, rest, errors.strip()) == (130, "", "")


def test_stack_that_compose_manages_is_left_to_compose(up: FakeEngine, typed: Type) -> None:
    labels = up.containers["autoregistry"]["Config"]["Labels"]
    labels["com.docker.compose.project"] = "autoregistry"
    labels["com.docker.compose.project.config_files"] = "/home/me/compose.yaml"

    refused = "error: docker compose manages this stack; change it with compose\nhint: docker compose --file"
    assert typed("up").stderr.endswith(f"{refused} /home/me/compose.yaml up -d\n")
    assert typed("down").stderr == f"{refused} /home/me/compose.yaml down\n"
    assert typed("up", "--no-watch").stderr.splitlines()[-1] == (
        "hint: autoregistry generate compose --no-watch --output /home/me/compose.yaml"
        " && docker compose --file /home/me/compose.yaml up -d"
    )
    status = json.loads(typed("status", "--json").stdout)
    assert status["run_by"] == "docker compose"
    assert status["start"] == "docker compose --file /home/me/compose.yaml up -d"


def test_generate_overwrites_only_its_own_files(typed: Type, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    flags = ("generate", "compose", "--port", PORT, "-o", str(file))
    first, again = typed(*flags), typed(*flags)
    file.write_text("services: {}\n")
    refused = typed(*flags)
    forced = typed(*flags, "--force")

    assert [r.exit_code for r in (first, again, refused, forced)] == [0, 0, 2, 0]
    assert refused.stderr.splitlines()[-2:] == [
        f"error: {file} exists and was not written by autoregistry",
        f"hint: autoregistry generate compose --port 5149 --output {file} --force",
    ]
    assert set(yaml.safe_load(file.read_text())["services"]) == {
        "autoregistry",
        "autoregistry-backend",
    }


def test_missing_permission_on_the_socket_is_one_error_with_the_usual_fix(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    socket = tmp_path / "docker.sock"
    socket.touch(mode=0o600)
    reader, writer = os.pipe()
    if os.fork() == 0:  # a user without rights; the interpreter is loaded already
        os.setgroups([])
        os.setuid(65534)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        os.write(writer, typed_without_engine("up").encode())
        os._exit(0)
    os.close(writer)
    os.wait()

    assert os.read(reader, 4096).decode() == (
        f"error: Docker does not answer at unix://{socket}: permission denied\n"
        "hint: sudo usermod -aG docker $USER  (then log in again)\n"
    )
    os.close(reader)


def typed_without_engine(*words: str) -> str:
    from click.testing import CliRunner

    return CliRunner().invoke(program, words).stderr


def _all(group: click.Command, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        return [(path, group)]
    context = click.Context(group)
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return [entry for name, one in commands.items() if one for entry in _all(one, *path, name)]


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*entry, id=" ".join(entry[0])) for entry in _all(program)]
)
def test_help_of_every_command_has_an_example(
    path: tuple[str, ...], command: click.Command
) -> None:
    assert "Example" in (command.help or "")
    assert f"autoregistry {' '.join(path)}" in (command.help or "")
