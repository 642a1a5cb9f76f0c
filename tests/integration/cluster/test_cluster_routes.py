"""Other routes from a cluster to the registry, and routes after a detach or a restart of Docker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dev.lab import Docker, Registry
from dev.lab.registry import free_port
from tests.integration.helpers.clusters import EXAMPLE, MAIN, OTHER, OTHER_STORE, Clusters
from tests.integration.helpers.serving import wait_for

pytestmark = pytest.mark.engine

# Read at import, because tests run without AUTOREGISTRY_* variables; `make soak` sets ten.
RESTARTS = int(os.environ.get("AUTOREGISTRY_RESTARTS", "2"))


@contextmanager
def _serving(clusters: Clusters, listen: str, registry: Registry, state: Path) -> Iterator[None]:
    """Run `serve` on all addresses: nodes reach it through the gateway of their network."""
    flags = ("--listen", listen, "--backend", registry.url, "--state", str(state))
    process = clusters.start("serve", *flags)
    assert process.stderr is not None
    try:
        wait_for(lambda: "is served at" in process.stderr.readline(), "serve to listen")  # type: ignore[union-attr]  # asserted above
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _checks(clusters: Clusters) -> list[dict[str, Any]]:
    """Return the checks of `doctor`, without those of other tests' clusters."""
    ours = ("docker", "port", "stack", "loop", MAIN, OTHER)
    checks = json.loads(clusters.run("doctor", "--json")[1])
    return [check for check in checks if check["about"] in ours]


def _is_well(clusters: Clusters) -> bool:
    return all(check["is_well"] for check in _checks(clusters))


def test_three_nodes_are_detached_and_attached_again_twice_in_a_row(clusters: Clusters) -> None:
    """The nodes were created with our registries.yaml, which detach removes as well."""
    attached = []
    for verb in ("detach", "detach", "attach", "attach", "detach", "attach"):
        clusters.ok("cluster", verb, MAIN)
        attached.append(clusters.cluster_rows()[MAIN]["attached"])
    registries = f"k3d-{MAIN}-agent-1", "cat", "/etc/rancher/k3s/registries.yaml"

    assert attached == [0, 0, 3, 3, 0, 3]
    assert "localhost" not in clusters.engine.cli("exec", *registries).stdout


@OTHER_STORE
def test_doctor_reports_each_problem_with_the_command_that_fixes_it(clusters: Clusters) -> None:
    """A mirror file with another registry, no ConfigMap, and a `connect` that Docker refused half-way."""
    docker, network, agent = clusters.engine.cli, f"k3d-{MAIN}", f"k3d-{MAIN}-agent-0"
    taken = clusters.inspect(agent)["NetworkSettings"]["Networks"][network]["IPAddress"]
    file = f"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/{clusters.name}/hosts.toml"
    elsewhere = '# Written by autoregistry\nserver = "http://other:5000"'
    docker("exec", agent, "sh", "-c", f"echo '{elsewhere}' > {file}")
    clusters.kubectl("delete", "configmap", "-n", "kube-public", "local-registry-hosting")
    docker("network", "disconnect", network, "autoregistry")
    refused = docker("network", "connect", "--ip", taken, network, "autoregistry", check=False)
    problems = [check for check in _checks(clusters) if not check["is_well"]]
    output = "\n".join(check["sentence"] for check in problems)
    hints = {check["hint"] for check in problems}
    for hint in hints:
        clusters.ok(*hint.split()[1:])

    assert refused.returncode != 0
    assert f"autoregistry and {agent} both want {taken} on network {network}" in output
    assert f"autoregistry is listed on network {network}, but has no address there" in output
    assert (
        f"{agent} pulls {clusters.name} from http://other:5000; expected http://autoregistry"
        in output
    )
    assert f"k3d-{MAIN}-server-0 cannot reach the registry" in output
    assert "there is no ConfigMap local-registry-hosting" in output
    assert hints == {f"autoregistry cluster attach {MAIN}"}
    assert _is_well(clusters)


@OTHER_STORE
def test_k3s_older_than_january_2024_is_refused(clusters: Clusters) -> None:
    clusters.k3d("cluster", "create", OTHER, *clusters.flags)
    server = f"k3d-{OTHER}-server-0"
    older = "s/v1.34.4+stand-in/v1.26.4+k3s1/"
    clusters.engine.cli(
        "exec", server, "sed", "-i", older, "/opt/node/python/dev/node/inside/k3s.py"
    )
    code, _, err = clusters.run("cluster", "attach", OTHER)
    clusters.k3d("cluster", "delete", OTHER)

    assert code == 1
    assert f"{server} runs a k3s older than January 2024" in err
    assert "hint: autoregistry cluster create NAME -- --image rancher/k3s:" in err
    assert OTHER not in clusters.cluster_rows()


@OTHER_STORE
def test_clusters_pull_again_after_down_and_up(clusters: Clusters) -> None:
    clusters.ok("down")
    clusters.ok("up", "--port", str(clusters.port))

    wait_for(lambda: _is_well(clusters), "no problems")


@OTHER_STORE
def test_generated_registries_file_works_with_k3d_alone(clusters: Clusters, tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    clusters.ok("generate", "registries", "-o", str(file))
    clusters.k3d("cluster", "create", OTHER, "--registry-config", str(file), *clusters.flags)
    results = {
        check["sentence"]: check["is_well"]
        for check in _checks(clusters)
        if check["about"] == OTHER
    }
    clusters.k3d("cluster", "delete", OTHER)

    def networks() -> list[str]:
        return clusters.engine.cli("network", "ls", "--format", "{{.Name}}").stdout.split()

    wait_for(lambda: f"k3d-{OTHER}" not in networks(), "the network to go")
    assert results[f"the registry is on network k3d-{OTHER}"]
    assert results[f"k3d-{OTHER}-server-0 pulled a test image that was pushed on demand"]


@OTHER_STORE
def test_interrupted_create_removes_the_cluster(clusters: Clusters) -> None:
    process = clusters.start("cluster", "create", OTHER, "--", *clusters.flags)
    running = ("ps", "--quiet", "--filter", f"label=k3d.cluster={OTHER}")
    wait_for(lambda: clusters.engine.cli(*running).stdout or process.poll(), "a node to start")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    containers = clusters.engine.cli("ps", "--all", "--format", "{{.Names}}").stdout
    networks = clusters.engine.cli("network", "ls", "--format", "{{.Name}}").stdout

    assert process.returncode == 130
    assert f"interrupted; removing what exists of cluster {OTHER}" in stderr
    assert f"k3d-{OTHER}" not in containers + networks


@OTHER_STORE
def test_cluster_can_use_serve_on_the_host_at_another_port(
    clusters: Clusters, registry: Registry, tmp_path: Path
) -> None:
    """Through host.k3d.internal. After `k3d cluster delete`, `status` does not list the cluster."""
    port = str(free_port())
    with _serving(clusters, f"0.0.0.0:{port}", registry, tmp_path):
        create = ("cluster", "create", OTHER, "--via", "host", "--port", port)
        output = clusters.ok(*create, "--", *clusters.flags)
        listed = clusters.cluster_rows()[OTHER]
        passed = [check for check in _checks(clusters) if check["is_well"]]
    clusters.k3d("cluster", "delete", OTHER)
    status = json.loads(clusters.ok("status", "--json"))

    assert f"docker build -t localhost:{port}/app:dev ." in output
    assert (listed["attached"], listed["via"]) == (1, f"the host's address, as localhost:{port}")
    assert [check["sentence"] for check in passed if check["about"] == OTHER] == [
        f"every node pulls localhost:{port} from http://host.k3d.internal:{port}",
        f"k3d-{OTHER}-server-0 reaches http://host.k3d.internal:{port}",
        f"ConfigMap local-registry-hosting names localhost:{port}",
        f"k3d-{OTHER}-server-0 pulled a test image that was pushed on demand",
    ]
    assert OTHER not in [row["name"] for row in status["clusters"]]


@OTHER_STORE
def test_own_registries_are_merged_and_detach_survives_a_restart(
    clusters: Clusters, tmp_path: Path
) -> None:
    own = "mirrors: {quay.io: {endpoint: [http://cache:5000]}}"
    config = tmp_path / "k3d.yaml"
    config.write_text(f"{(EXAMPLE / 'k3d.yaml').read_text()}registries:\n  config: |\n    {own}\n")
    server = f"k3d-{OTHER}-server-0"
    certs = ("exec", server, "ls", "/var/lib/rancher/k3s/agent/etc/containerd/certs.d")

    clusters.ok("cluster", "create", OTHER, "--", "--config", str(config), *clusters.flags)
    created = clusters.engine.cli(*certs).stdout.split()
    clusters.ok("cluster", "detach", OTHER)
    clusters.engine.cli("restart", "--time", "3", server)
    version = ("exec", server, "crictl", "version")  # containerd starts after its files are written
    wait_for(lambda: clusters.engine.cli(*version, check=False).returncode == 0, "containerd", 60)
    detached = clusters.engine.cli(*certs).stdout.split()
    clusters.ok("cluster", "delete", OTHER)

    assert created == [f"127.0.0.1:{clusters.port}", f"localhost:{clusters.port}", "quay.io"]
    assert detached == ["quay.io"]


def test_pulls_work_and_addresses_stay_the_same_after_restarts_of_docker(
    clusters: Clusters, disturbing: Docker
) -> None:
    """Our containers keep their addresses and take no node's; nodes may exchange theirs."""
    names = ("autoregistry", "autoregistry-backend", f"k3d-{MAIN}-server-0")

    def addresses() -> list[str]:
        networks = [clusters.inspect(name)["NetworkSettings"]["Networks"] for name in names]
        return [on[f"k3d-{MAIN}"]["IPAddress"] for on in networks]

    before = addresses()
    for _ in range(RESTARTS):
        disturbing.restart()
        wait_for(lambda: _is_well(clusters), "no problems", 120)

        *ours, server = addresses()
        assert ours == before[:2]
        assert server not in ours  # k3d does not always fix node addresses
