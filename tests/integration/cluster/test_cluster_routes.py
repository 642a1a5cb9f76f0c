"""Other roads from a cluster to the registry, roads that were left, and roads that must outlast restarts of Docker."""

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
from tests.integration.cluster import test_cluster
from tests.integration.cluster.test_cluster import EXAMPLE, MAIN, OTHER, OTHER_STORE, Clusters
from tests.integration.helpers.serving import wait_for

pytestmark = pytest.mark.engine

clusters = test_cluster.clusters
# Read before the tests' own environment is cleaned; ten, for a long run.
RESTARTS = int(os.environ.get("AUTOREGISTRY_RESTARTS", "2"))


@contextmanager
def _serving(clusters: Clusters, listen: str, registry: Registry, state: Path) -> Iterator[None]:
    """`serve` in the foreground, at all addresses: nodes come by the gateway of their network."""
    words = ("--listen", listen, "--backend", registry.url, "--state", str(state))
    process = clusters.start("serve", *words)
    assert process.stderr is not None
    try:
        wait_for(lambda: "is served at" in process.stderr.readline(), "serve to listen")  # type: ignore[union-attr]  # asserted above
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _checks(clusters: Clusters) -> list[dict[str, Any]]:
    """What the doctor says, but for clusters that are somebody else's."""
    ours = ("docker", "port", "stack", "loop", MAIN, OTHER)
    told = json.loads(clusters.run("doctor", "--json")[1])
    return [check for check in told if check["about"] in ours]


def _is_well(clusters: Clusters) -> bool:
    return all(check["is_well"] for check in _checks(clusters))


def test_three_nodes_are_let_go_and_attached_again_twice_in_a_row(clusters: Clusters) -> None:
    """They were created with our registries.yaml, and detach undoes that as well."""
    seen = []
    for verb in ("detach", "detach", "attach", "attach", "detach", "attach"):
        clusters.ok("cluster", verb, MAIN)
        seen.append(clusters.listed()[MAIN]["attached"])
    registries = f"k3d-{MAIN}-agent-1", "cat", "/etc/rancher/k3s/registries.yaml"

    assert seen == [0, 0, 3, 3, 0, 3]
    assert "localhost" not in clusters.engine.cli("exec", *registries).stdout


@OTHER_STORE
def test_every_illness_is_named_and_mended_by_the_command_that_is_named(clusters: Clusters) -> None:
    """A mirror file that leads elsewhere, no ConfigMap, and a `connect` that Docker refused and left half done."""
    docker, network, agent = clusters.engine.cli, f"k3d-{MAIN}", f"k3d-{MAIN}-agent-0"
    taken = clusters.inspect(agent)["NetworkSettings"]["Networks"][network]["IPAddress"]
    file = f"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/{clusters.name}/hosts.toml"
    elsewhere = 'server = "http://other:5000"'
    docker("exec", agent, "sh", "-c", f"echo '{elsewhere}' > {file}")
    clusters.kubectl("delete", "configmap", "-n", "kube-public", "local-registry-hosting")
    docker("network", "disconnect", network, "autoregistry")
    refused = docker("network", "connect", "--ip", taken, network, "autoregistry", check=False)
    ill = [check for check in _checks(clusters) if not check["is_well"]]
    said = "\n".join(check["sentence"] for check in ill)
    hints = {check["hint"] for check in ill}
    for hint in hints:
        clusters.ok(*hint.split()[1:])

    assert refused.returncode != 0
    assert f"autoregistry and {agent} both want {taken} on network {network}" in said
    assert f"Docker lists autoregistry on network {network}, but it has no address there" in said
    assert f"{agent} pulls {clusters.name} from http://other:5000, not http://autoregistry" in said
    assert f"k3d-{MAIN}-server-0 cannot reach the registry" in said
    assert "there is no ConfigMap local-registry-hosting" in said
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
    assert OTHER not in clusters.listed()


@OTHER_STORE
def test_after_down_and_up_the_clusters_pull_again(clusters: Clusters) -> None:
    clusters.ok("down")
    clusters.ok("up", "--port", str(clusters.port))

    wait_for(lambda: _is_well(clusters), "everything to be well")


@OTHER_STORE
def test_a_generated_file_and_k3d_alone_are_enough(clusters: Clusters, tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    clusters.ok("generate", "registries", "-o", str(file))
    clusters.k3d("cluster", "create", OTHER, "--registry-config", str(file), *clusters.flags)
    said = {
        check["sentence"]: check["is_well"]
        for check in _checks(clusters)
        if check["about"] == OTHER
    }
    clusters.k3d("cluster", "delete", OTHER)

    def networks() -> list[str]:
        return clusters.engine.cli("network", "ls", "--format", "{{.Name}}").stdout.split()

    wait_for(lambda: f"k3d-{OTHER}" not in networks(), "the network to go")
    assert said[f"the registry is on network k3d-{OTHER}"]
    assert said[f"k3d-{OTHER}-server-0 pulled an image that was not pushed"]


@OTHER_STORE
def test_an_interrupted_create_leaves_nothing_behind(clusters: Clusters) -> None:
    process = clusters.start("cluster", "create", OTHER, "--", *clusters.flags)
    there = ("ps", "--quiet", "--filter", f"label=k3d.cluster={OTHER}")
    wait_for(lambda: clusters.engine.cli(*there).stdout or process.poll(), "a node to start")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    containers = clusters.engine.cli("ps", "--all", "--format", "{{.Names}}").stdout
    networks = clusters.engine.cli("network", "ls", "--format", "{{.Name}}").stdout

    assert process.returncode == 130
    assert f"interrupted; removing what exists of cluster {OTHER}" in told
    assert f"k3d-{OTHER}" not in containers + networks


@OTHER_STORE
def test_serve_on_the_host_at_another_port_is_a_road_as_well(
    clusters: Clusters, registry: Registry, tmp_path: Path
) -> None:
    """The article's: host.k3d.internal. What `k3d cluster delete` then leaves is told rightly."""
    port = str(free_port())
    with _serving(clusters, f"0.0.0.0:{port}", registry, tmp_path):
        create = ("cluster", "create", OTHER, "--via", "host", "--port", port)
        said = clusters.ok(*create, "--", *clusters.flags)
        listed = clusters.listed()[OTHER]
        well = [check for check in _checks(clusters) if check["is_well"]]
    clusters.k3d("cluster", "delete", OTHER)
    status = json.loads(clusters.ok("status", "--json"))

    assert f"docker build -t localhost:{port}/app:dev ." in said
    assert (listed["attached"], listed["via"]) == (1, f"the host's address, as localhost:{port}")
    assert [check["sentence"] for check in well if check["about"] == OTHER] == [
        f"every node pulls localhost:{port} from http://host.k3d.internal:{port}",
        f"k3d-{OTHER}-server-0 reaches http://host.k3d.internal:{port}",
        f"ConfigMap local-registry-hosting names localhost:{port}",
        f"k3d-{OTHER}-server-0 pulled an image that was not pushed",
    ]
    assert OTHER not in [row["name"] for row in status["clusters"]]


@OTHER_STORE
def test_the_examples_config_with_registries_of_ones_own_is_merged_and_detach_lasts(
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
    asked = ("exec", server, "crictl", "version")  # its files are there before containerd is
    wait_for(lambda: clusters.engine.cli(*asked, check=False).returncode == 0, "containerd", 60)
    detached = clusters.engine.cli(*certs).stdout.split()
    clusters.ok("cluster", "delete", OTHER)

    assert created == [f"127.0.0.1:{clusters.port}", f"localhost:{clusters.port}", "quay.io"]
    assert detached == ["quay.io"]


def test_pulls_work_and_addresses_stay_after_restarts_of_docker(
    clusters: Clusters, disturbing: Docker
) -> None:
    """We keep our addresses, and so take none of a node's, which may change places among themselves."""
    watched = ("autoregistry", "autoregistry-backend", f"k3d-{MAIN}-server-0")

    def addresses() -> list[str]:
        networks = [clusters.inspect(name)["NetworkSettings"]["Networks"] for name in watched]
        return [on[f"k3d-{MAIN}"]["IPAddress"] for on in networks]

    before = addresses()
    for _ in range(RESTARTS):
        disturbing.restart()
        wait_for(lambda: _is_well(clusters), "everything to be well", 120)

        *ours, server = addresses()
        assert ours == before[:2]
        assert (
            server not in ours
        )  # k3d fixes it not everywhere; whichever node has it, it is not us
