"""`up`, `status`, `down` and `generate compose` as people type them, on both image stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev import lab
from dev.lab import Docker
from dev.lab.cache import RUN, locked
from dev.lab.registry import free_port
from tests.integration.helpers.serving import build, wait_for
from tests.integration.helpers.warm import Program

pytestmark = pytest.mark.engine


class Typed:
    """`autoregistry` in one daemon's environment."""

    def __init__(self, engine: Docker) -> None:
        self.engine = engine
        self.port = free_port()
        self._environment = {**os.environ, **engine.environment}

    def start(self, *words: str) -> Program:
        return Program(*words, env=self._environment)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, answer and story."""
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        print(f"$ autoregistry {' '.join(words)}\n{out}{err}")
        return process.wait(0), out, err

    def ok(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert code == 0, err
        return out

    def inspect(self, container: str) -> dict[str, Any]:
        return dict(json.loads(self.engine.cli("inspect", container).stdout)[0])

    @property
    def name(self) -> str:
        """What images are tagged with."""
        return f"localhost:{self.port}"

    def names(self) -> list[str]:
        shown = self.engine.cli("ps", "--all", "--format", "{{.Names}}").stdout.split()
        return sorted(name for name in shown if name.startswith("autoregistry"))


@contextmanager
def only_stack(engine: Docker) -> Iterator[None]:
    """A daemon has one stack: nobody else's test uses it meanwhile, and nothing is left of it afterwards."""
    if not engine.owned:
        pytest.skip("the stack of your own Docker is not for a test to change")
    with locked(f"stack-{engine.store}", directory=RUN):
        Typed(engine).ok("down", "--volumes", "--yes")
        yield
        Typed(engine).ok("down", "--volumes", "--yes")


@pytest.fixture(scope="module")
def typed(engine: Docker) -> Iterator[Typed]:
    """The command line of a daemon that has the two base images and nothing of ours."""
    for name in ("registry:2", "python:3.13-slim"):
        lab.image(engine, name)
    with only_stack(engine):
        yield Typed(engine)


@pytest.fixture
def stack(typed: Typed) -> Typed:
    """... and the stack is up."""
    typed.ok("up", "--port", str(typed.port))
    return typed


def test_up_makes_a_proxy_that_is_locked_in_and_published_on_this_machine_only(
    stack: Typed,
) -> None:
    facts = stack.inspect("autoregistry")
    host = facts["HostConfig"]
    status = stack.engine.cli("exec", "autoregistry", "cat", "/proc/1/status").stdout

    assert facts["State"]["Health"]["Status"] == "healthy"
    assert host["PortBindings"]["5000/tcp"] == [
        {"HostIp": "127.0.0.1", "HostPort": str(stack.port)}
    ]
    assert host["ReadonlyRootfs"] is True
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert "CapEff:\t0000000000000000" in status
    assert "Uid:\t65532\t65532" in status


def test_what_is_built_is_in_the_registry_without_a_push(stack: Typed) -> None:
    build(stack.engine, f"localhost:{stack.port}/shop/api:dev", stack.engine.store)
    url = f"http://127.0.0.1:{stack.port}/v2/shop/api/tags/list"

    wait_for(lambda: httpx.get(url, trust_env=False).status_code == 200, "the eager push")
    assert httpx.get(url, trust_env=False).json()["tags"] == ["dev"]


def test_up_again_changes_nothing_and_says_so(stack: Typed) -> None:
    before = [stack.inspect(name)["Id"] for name in stack.names()]
    began = time.monotonic()

    assert stack.ok("up") == f"localhost:{stack.port} is up, nothing had to change\n"

    print(f"after {time.monotonic() - began:.2f} s")
    assert before == [stack.inspect(name)["Id"] for name in stack.names()]


def test_a_new_port_replaces_only_the_proxy_which_keeps_its_cluster_networks(
    stack: Typed,
) -> None:
    docker = stack.engine.cli
    docker("network", "create", "k3d-st-plain")
    docker("network", "create", "--subnet", "10.213.7.0/24", "k3d-st-fixed")
    try:
        docker("network", "connect", "k3d-st-plain", "autoregistry")
        docker("network", "connect", "--ip", "10.213.7.77", "k3d-st-fixed", "autoregistry")
        backend = stack.inspect("autoregistry-backend")["Id"]
        stack.port = free_port()

        stack.ok("up", "--port", str(stack.port))
        networks = stack.inspect("autoregistry")["NetworkSettings"]["Networks"]

        assert stack.inspect("autoregistry-backend")["Id"] == backend
        assert {"autoregistry", "k3d-st-plain", "k3d-st-fixed"} == set(networks)
        assert networks["k3d-st-fixed"]["IPAddress"] == "10.213.7.77"
    finally:
        for network in ("k3d-st-plain", "k3d-st-fixed"):
            docker("network", "disconnect", "--force", network, "autoregistry", check=False)
            docker("network", "rm", network)


def test_an_address_that_somebody_else_took_meanwhile_does_not_stop_the_proxy(
    stack: Typed,
) -> None:
    lab.image(stack.engine, "busybox:latest")
    docker = stack.engine.cli
    docker("network", "create", "--subnet", "10.213.8.0/24", "k3d-st-taken")
    try:
        docker("network", "connect", "--ip", "10.213.8.77", "k3d-st-taken", "autoregistry")
        docker("stop", "autoregistry")
        run = ("run", "--detach", "--name", "st-taker", "--network", "k3d-st-taken")
        docker(*run, "--ip", "10.213.8.77", "busybox:latest", "sleep", "600")

        stack.ok("up")
        networks = stack.inspect("autoregistry")["NetworkSettings"]["Networks"]

        assert networks["k3d-st-taken"]["IPAddress"] == "10.213.8.253"
    finally:
        docker("rm", "--force", "st-taker", check=False)
        docker("network", "disconnect", "--force", "k3d-st-taken", "autoregistry", check=False)
        docker("network", "rm", "k3d-st-taken")


def test_another_registry_image_replaces_only_the_backend(stack: Typed) -> None:
    lab.image(stack.engine, "registry:3")
    proxy = stack.inspect("autoregistry")["Id"]

    stack.ok("up", "--registry-image", "registry:3")
    told = json.loads(stack.ok("status", "--json"))
    again = stack.ok("up")
    stack.ok("up", "--registry-image", "registry:2")

    assert [piece["image"] for piece in told["containers"]][1] == "registry:3"
    assert "nothing had to change" in again
    assert told["proxy"]["backend"] == "ok"
    assert stack.inspect("autoregistry")["Id"] == proxy


def test_a_replacement_that_was_interrupted_is_finished_by_the_next_up(stack: Typed) -> None:
    docker = stack.engine.cli
    docker("stop", "autoregistry")
    docker("rename", "autoregistry", "autoregistry-new")
    identity = stack.inspect("autoregistry-new")["Id"]

    stack.ok("up")

    assert stack.names() == ["autoregistry", "autoregistry-backend"]
    assert stack.inspect("autoregistry")["Id"] == identity


def test_ctrl_c_ends_with_130_and_the_next_up_goes_on(stack: Typed) -> None:
    stack.engine.cli("rm", "--force", "autoregistry")
    process = stack.start("up", "--port", str(stack.port))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("autoregistry ..."):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]

    assert process.returncode == 130
    assert rest.endswith("interrupted; `autoregistry up` goes on from here\n\n")
    stack.ok("up", "--port", str(stack.port))
    assert stack.inspect("autoregistry")["State"]["Health"]["Status"] == "healthy"


def test_a_socket_of_another_daemon_is_refused_by_name(stack: Typed, other_engine: Docker) -> None:
    """Either the container sees another daemon there, or the path is not there at all."""
    code, _, err = stack.run("up", "--docker-socket", str(other_engine.socket))

    assert code == 1
    assert f"a container cannot reach the Docker daemon of {stack.engine.host}" in err
    assert f"({other_engine.socket}: " in err
    assert "hint: autoregistry up --docker-socket PATH" in err
    assert stack.names() == ["autoregistry", "autoregistry-backend"]


def test_a_port_that_a_container_has_is_refused_with_its_name(stack: Typed) -> None:
    lab.image(stack.engine, "busybox:latest")
    port = free_port()
    run = ("run", "--detach", "--name", "st-holder", "--publish", f"127.0.0.1:{port}:80")
    stack.engine.cli(*run, "busybox:latest", "sleep", "600")
    try:
        code, _, err = stack.run("up", "--port", str(port))
    finally:
        stack.engine.cli("rm", "--force", "st-holder")

    assert code == 1
    assert f"error: port {port} on 127.0.0.1 belongs to the container st-holder\n" in err
    assert f"hint: autoregistry up --port {port + 1}" in err


@pytest.mark.parametrize("flag", ["--registry-image", "--base-image"])
def test_an_image_that_cannot_be_pulled_is_one_error(stack: Typed, flag: str) -> None:
    code, _, err = stack.run("up", flag, "127.0.0.1:9/no/such:image")

    assert code == 1
    assert "error: 127.0.0.1:9/no/such:image cannot be pulled: " in err
    assert f"hint: autoregistry up {flag} IMAGE" in err


def test_k3d_lists_both_as_its_registries(stack: Typed) -> None:
    listed = subprocess.run(
        [lab.tool("k3d"), "registry", "list", "--no-headers"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **stack.engine.environment},
    )

    assert {"autoregistry", "autoregistry-backend"} <= set(listed.stdout.split())


def test_down_keeps_what_was_pushed_and_up_finds_it_again(stack: Typed) -> None:
    build(stack.engine, f"localhost:{stack.port}/shop/kept:dev", "kept")
    url = f"http://127.0.0.1:{stack.port}/v2/shop/kept/tags/list"
    wait_for(lambda: httpx.get(url, trust_env=False).status_code == 200, "the eager push")

    said = stack.ok("down")
    left = stack.names(), stack.engine.cli("network", "ls", "--format", "{{.Name}}").stdout.split()
    stack.ok("up", "--port", str(stack.port))

    assert said.endswith(f"kept for the next `autoregistry up --port {stack.port}`\n")
    assert left[0] == []
    assert "autoregistry" not in left[1]
    assert httpx.get(url, trust_env=False).json()["tags"] == ["dev"]


def test_a_container_of_our_name_that_is_not_ours_is_left_alone(typed: Typed) -> None:
    lab.image(typed.engine, "busybox:latest")
    typed.ok("down")
    typed.engine.cli("run", "--detach", "--name", "autoregistry", "busybox:latest", "sleep", "600")
    try:
        refused = [typed.run(verb) for verb in ("up", "down")]
        assert typed.names() == ["autoregistry"]
    finally:
        typed.engine.cli("rm", "--force", "autoregistry")

    for code, _, err in refused:
        assert code == 1
        assert "a container named autoregistry is there and is not ours" in err
        assert "hint: docker rename autoregistry autoregistry-other" in err


def test_compose_runs_the_same_stack_and_is_recognised(typed: Typed, tmp_path: Path) -> None:
    if typed.engine.cli("compose", "version", check=False).returncode != 0:
        pytest.skip("this Docker has no compose plugin")
    typed.ok("down")
    file = tmp_path / "compose.yaml"
    typed.ok("generate", "compose", "--port", str(typed.port), "--output", str(file))
    compose = ("compose", "--file", file)
    typed.engine.cli(*compose, "up", "--detach", "--wait")
    try:
        told = json.loads(typed.ok("status", "--json"))
        build(typed.engine, f"{typed.name}/composed:dev", "composed")
        assert "composed:dev" in typed.ok("push", "composed:dev")
        assert "✗" not in typed.ok("doctor")
        refused = [typed.run(verb) for verb in ("up", "down")]
    finally:
        typed.engine.cli(*compose, "down")

    assert (told["run_by"], told["proxy"]["docker"]) == ("docker compose", "ok")
    assert [code for code, _, _ in refused] == [1, 1]
    for verb, (_, _, err) in zip(("up -d", "down"), refused, strict=True):
        assert f"hint: docker compose --file {file} {verb}\n" in err


def test_down_with_volumes_leaves_nothing_but_the_image(typed: Typed) -> None:
    typed.ok("up", "--port", str(typed.port))
    typed.ok("down", "--volumes", "--yes")
    volumes = typed.engine.cli("volume", "ls", "--format", "{{.Name}}").stdout.split()

    assert typed.names() == []
    assert {"autoregistry-data", "autoregistry-state"} & set(volumes) == set()
