"""`up`, `status`, `down` and `generate compose` on both image stores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from dev import lab
from dev.lab import Docker
from dev.lab.registry import free_port
from tests.integration.helpers.command_line import CommandLine
from tests.integration.helpers.serving import build, wait_for

pytestmark = pytest.mark.engine


def test_up_creates_a_proxy_without_capabilities_that_is_published_on_loopback_only(
    stack: CommandLine,
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


def test_built_image_is_in_the_registry_without_a_push(stack: CommandLine) -> None:
    build(stack.engine, f"localhost:{stack.port}/shop/api:dev", stack.engine.store)
    url = f"http://127.0.0.1:{stack.port}/v2/shop/api/tags/list"

    wait_for(lambda: httpx.get(url, trust_env=False).status_code == 200, "the automatic push")
    assert httpx.get(url, trust_env=False).json()["tags"] == ["dev"]


def test_second_up_changes_nothing_and_reports_that(stack: CommandLine) -> None:
    before = [stack.inspect(name)["Id"] for name in stack.containers()]
    began = time.monotonic()

    assert stack.ok("up") == f"localhost:{stack.port} is up, nothing had to change\n"

    print(f"second up: {time.monotonic() - began:.2f} s")
    assert before == [stack.inspect(name)["Id"] for name in stack.containers()]


def test_new_port_replaces_only_the_proxy_and_keeps_its_cluster_networks(
    stack: CommandLine,
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


def test_proxy_starts_after_another_container_took_its_address(
    stack: CommandLine,
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


def test_new_registry_image_replaces_only_the_backend(stack: CommandLine) -> None:
    lab.image(stack.engine, "registry:3")
    proxy = stack.inspect("autoregistry")["Id"]

    stack.ok("up", "--registry-image", "registry:3")
    status = json.loads(stack.ok("status", "--json"))
    again = stack.ok("up")
    stack.ok("up", "--registry-image", "registry:2")

    assert [piece["image"] for piece in status["containers"]][1] == "registry:3"
    assert "nothing had to change" in again
    assert status["proxy"]["backend"] == "ok"
    assert stack.inspect("autoregistry")["Id"] == proxy


def test_up_finishes_an_interrupted_replacement(stack: CommandLine) -> None:
    docker = stack.engine.cli
    docker("stop", "autoregistry")
    docker("rename", "autoregistry", "autoregistry-new")
    identity = stack.inspect("autoregistry-new")["Id"]

    stack.ok("up")

    assert stack.containers() == ["autoregistry", "autoregistry-backend"]
    assert stack.inspect("autoregistry")["Id"] == identity


def test_ctrl_c_exits_with_130_and_the_next_up_continues(stack: CommandLine) -> None:
    stack.engine.cli("rm", "--force", "autoregistry")
    process = stack.start("up", "--port", str(stack.port))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("autoregistry ..."):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]

    assert process.returncode == 130
    assert rest.endswith("interrupted; run `autoregistry up` to continue\n\n")
    stack.ok("up", "--port", str(stack.port))
    assert stack.inspect("autoregistry")["State"]["Health"]["Status"] == "healthy"


def test_socket_of_another_daemon_is_an_error_that_names_it(
    stack: CommandLine, other_engine: Docker
) -> None:
    """In the container that path leads to another daemon, or does not exist."""
    code, _, err = stack.run("up", "--docker-socket", str(other_engine.socket))

    assert code == 1
    assert f"a container cannot reach the Docker daemon of {stack.engine.host}" in err
    assert f"({other_engine.socket}: " in err
    assert "hint: autoregistry up --docker-socket PATH" in err
    assert stack.containers() == ["autoregistry", "autoregistry-backend"]


def test_port_of_another_container_is_an_error_that_names_the_container(stack: CommandLine) -> None:
    lab.image(stack.engine, "busybox:latest")
    port = free_port()
    run = ("run", "--detach", "--name", "st-holder", "--publish", f"127.0.0.1:{port}:80")
    stack.engine.cli(*run, "busybox:latest", "sleep", "600")
    try:
        code, _, err = stack.run("up", "--port", str(port))
    finally:
        stack.engine.cli("rm", "--force", "st-holder")

    assert code == 1
    assert f"error: port {port} on 127.0.0.1 is in use by the container st-holder\n" in err
    assert f"hint: autoregistry up --port {port + 1}" in err


@pytest.mark.parametrize("flag", ["--registry-image", "--base-image"])
def test_image_that_cannot_be_pulled_is_one_error(stack: CommandLine, flag: str) -> None:
    code, _, err = stack.run("up", flag, "127.0.0.1:9/no/such:image")

    assert code == 1
    assert "error: 127.0.0.1:9/no/such:image cannot be pulled: " in err
    assert f"hint: autoregistry up {flag} IMAGE" in err


def test_k3d_lists_both_containers_as_registries(stack: CommandLine) -> None:
    listed = subprocess.run(
        [lab.tool("k3d"), "registry", "list", "--no-headers"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **stack.engine.environment},
    )

    assert {"autoregistry", "autoregistry-backend"} <= set(listed.stdout.split())


def test_down_keeps_pushed_images_for_the_next_up(stack: CommandLine) -> None:
    build(stack.engine, f"localhost:{stack.port}/shop/kept:dev", "kept")
    url = f"http://127.0.0.1:{stack.port}/v2/shop/kept/tags/list"
    wait_for(lambda: httpx.get(url, trust_env=False).status_code == 200, "the automatic push")

    output = stack.ok("down")
    remaining = (
        stack.containers(),
        stack.engine.cli("network", "ls", "--format", "{{.Name}}").stdout.split(),
    )
    stack.ok("up", "--port", str(stack.port))

    assert output.endswith(f"kept for the next `autoregistry up --port {stack.port}`\n")
    assert remaining[0] == []
    assert "autoregistry" not in remaining[1]
    assert httpx.get(url, trust_env=False).json()["tags"] == ["dev"]


def test_foreign_container_with_our_name_is_not_changed(command_line: CommandLine) -> None:
    lab.image(command_line.engine, "busybox:latest")
    command_line.ok("down")
    command_line.engine.cli(
        "run", "--detach", "--name", "autoregistry", "busybox:latest", "sleep", "600"
    )
    try:
        refused = [command_line.run(verb) for verb in ("up", "down")]
        assert command_line.containers() == ["autoregistry"]
    finally:
        command_line.engine.cli("rm", "--force", "autoregistry")

    for code, _, err in refused:
        assert code == 1
        assert "the container name autoregistry is already used by another container" in err
        assert "hint: docker rename autoregistry autoregistry-other" in err


def test_compose_runs_the_same_stack_and_is_recognized(
    command_line: CommandLine, tmp_path: Path
) -> None:
    if command_line.engine.cli("compose", "version", check=False).returncode != 0:
        pytest.skip("this Docker has no compose plugin")
    command_line.ok("down")
    file = tmp_path / "compose.yaml"
    command_line.ok("generate", "compose", "--port", str(command_line.port), "--output", str(file))
    compose = ("compose", "--file", file)
    command_line.engine.cli(*compose, "up", "--detach", "--wait")
    try:
        status = json.loads(command_line.ok("status", "--json"))
        build(command_line.engine, f"{command_line.name}/composed:dev", "composed")
        assert "composed:dev" in command_line.ok("push", "composed:dev")
        assert "✗" not in command_line.ok("doctor")
        refused = [command_line.run(verb) for verb in ("up", "down")]
    finally:
        command_line.engine.cli(*compose, "down")

    assert (status["run_by"], status["proxy"]["docker"]) == ("docker compose", "ok")
    assert [code for code, _, _ in refused] == [1, 1]
    for verb, (_, _, err) in zip(("up -d", "down"), refused, strict=True):
        assert f"hint: docker compose --file {file} {verb}\n" in err


def test_down_with_volumes_removes_everything_but_the_image(command_line: CommandLine) -> None:
    command_line.ok("up", "--port", str(command_line.port))
    command_line.ok("down", "--volumes", "--yes")
    volumes = command_line.engine.cli("volume", "ls", "--format", "{{.Name}}").stdout.split()

    assert command_line.containers() == []
    assert {"autoregistry-data", "autoregistry-state"} & set(volumes) == set()
