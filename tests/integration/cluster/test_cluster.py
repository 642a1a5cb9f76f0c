"""Real k3d 5.9 with a real kubelet, on both image stores: from a build to a running pod without a push."""

from __future__ import annotations

import ast
import json
import shlex
import time

import pytest
import yaml

from tests.integration.helpers.clusters import (
    EXAMPLE,
    MAIN,
    ONE_STORE,
    OTHER,
    OTHER_STORE,
    Clusters,
)
from tests.integration.helpers.serving import wait_for

pytestmark = pytest.mark.engine


def test_created_cluster_is_attached_with_every_node(clusters: Clusters) -> None:
    assert clusters.cluster_rows()[MAIN] == {
        "name": MAIN,
        "nodes": 3,
        "running": 3,
        "attached": 3,
        "via": "Docker's network",
    }


def test_our_containers_use_addresses_at_the_end_of_the_network(clusters: Clusters) -> None:
    network = clusters.engine.cli("network", "inspect", f"k3d-{MAIN}").stdout
    addresses = {
        container["Name"]: int(container["IPv4Address"].partition("/")[0].rpartition(".")[2])
        for container in json.loads(network)[0]["Containers"].values()
    }

    ours = {addresses.pop("autoregistry"), addresses.pop("autoregistry-backend")}
    assert ours == {253, 252}
    assert max(addresses.values()) < 10


def test_built_image_runs_and_restart_runs_the_rebuilt_one(clusters: Clusters) -> None:
    """From end to end, on three nodes and with the default pull policy."""
    clusters.build("promise", "version 1")
    clusters.deploy("promise", replicas=3)
    wait_for(
        lambda: clusters.pod_logs("promise") == ["version 1"] * 3, "three pods of version 1", 90
    )
    clusters.build("promise", "version 2")
    clusters.kubectl("scale", "deployment/promise", "--replicas=4")

    clusters.ok("restart", "promise:dev")

    wait_for(lambda: set(clusters.pod_logs("promise")) == {"version 2"}, "pods of version 2", 90)
    code, _, err = clusters.run("restart", "promise:dev")
    assert code == 0
    assert "nothing runs an old copy" in err


def test_image_that_tilt_deploys_without_a_push_runs(clusters: Clusters) -> None:
    """Tilt builds `tilt-build-<time>` with `disable_push`, tags it by its content and deploys that tag."""
    built, deployed = "tilt-build-1790000000", "tilt-0123456789abcdef"
    clusters.build("tilted", "from Tilt")
    for tag in (built, deployed):
        clusters.engine.cli("tag", f"{clusters.name}/tilted:dev", f"{clusters.name}/tilted:{tag}")
    clusters.deploy("tilted", tag=deployed)

    wait_for(lambda: clusters.pod_logs("tilted") == ["from Tilt"], "the pod to run", 60)


def test_command_of_the_tiltfile_reads_our_name_from_the_cluster(clusters: Clusters) -> None:
    tiltfile = (EXAMPLE.parents[1] / "Tiltfile").read_text()
    line = next(line for line in tiltfile.splitlines() if line.startswith("READ_CONFIG_MAP"))
    argv = shlex.split(ast.literal_eval(line.partition(" = ")[2]).removesuffix(" || true"))

    hosting = yaml.safe_load(clusters.kubectl(*argv[3:]))  # after `kubectl --context %s`

    assert hosting["host"] == clusters.name


def test_node_with_an_old_copy_pulls_the_new_image_by_itself(clusters: Clusters) -> None:
    server, reference = f"k3d-{MAIN}-server-0", f"{clusters.name}/follows:dev"

    def held_id() -> str:
        output = clusters.engine.cli("exec", server, "crictl", "images", "--output=json").stdout
        images = json.loads(output)["images"]
        return next((i["id"] for i in images if reference in (i.get("repoTags") or [])), "")

    clusters.build("follows", "version 1")
    clusters.engine.cli("exec", server, "crictl", "pull", reference)
    first = held_id()
    clusters.build("follows", "version 2")

    wait_for(lambda: held_id() not in ("", first), "the node to hold the new image")


@ONE_STORE
def test_pod_in_back_off_runs_as_soon_as_its_image_is_built(
    clusters: Clusters,
) -> None:
    clusters.deploy("waits")

    reason = "status.containerStatuses[*].state.waiting.reason"
    wait_for(lambda: clusters.pods("waits", reason) == "ImagePullBackOff", "a back-off", 60)
    clusters.build("waits", "at last")
    built = time.monotonic()

    wait_for(lambda: clusters.pod_logs("waits") == ["at last"], "the pod to run", 30)
    print(f"build to running pod, out of a back-off: {time.monotonic() - built:.1f} s")


def test_kubectl_describe_gives_the_cause_of_a_failed_pull(clusters: Clusters) -> None:
    clusters.engine.cli("stop", "--time", "1", "autoregistry-backend")
    try:
        clusters.deploy("describes")
        cause = "the registry at http://autoregistry-backend:5000 does not answer"
        wait_for(
            lambda: cause in clusters.kubectl("describe", "pods", "--selector=app=describes"),
            cause,
            60,
        )
    finally:
        clusters.ok("up")
        clusters.kubectl("delete", "deployment", "describes")


def test_attach_all_attaches_new_clusters_and_nodes(clusters: Clusters) -> None:
    """A cluster started by k3d alone, and a node added to it later."""
    clusters.ok("up", "--attach-all")
    clusters.k3d("cluster", "create", OTHER, *clusters.flags)
    wait_for(
        lambda: clusters.cluster_rows()[OTHER]["attached"] == 1,
        "the new cluster to be attached",
        60,
    )
    image = clusters.flags[clusters.flags.index("--image") + 1]
    clusters.k3d("node", "create", "later", "--cluster", OTHER, "--image", image, "--role", "agent")

    wait_for(
        lambda: clusters.cluster_rows()[OTHER]["attached"] == 2, "the new node to be attached", 60
    )
    clusters.ok("up", "--no-attach-all")


def test_running_cluster_is_detached_and_attached_without_a_restart(clusters: Clusters) -> None:
    """Each command runs twice: the second time it changes nothing and succeeds."""
    started = clusters.inspect(f"k3d-{OTHER}-server-0")["State"]["StartedAt"]
    for _ in range(2):
        clusters.ok("cluster", "detach", OTHER)
    detached = clusters.cluster_rows()[OTHER]
    for _ in range(2):
        clusters.ok("cluster", "attach", OTHER)
    attached = clusters.cluster_rows()[OTHER]
    config_map = clusters.kubectl(
        "get", "configmap", "-n", "kube-public", "local-registry-hosting", cluster=OTHER
    )

    assert (attached["attached"], attached["via"]) == (2, "Docker's network")
    assert (detached["attached"], detached["via"]) == (0, "not attached")
    assert "local-registry-hosting" in config_map
    assert started == clusters.inspect(f"k3d-{OTHER}-server-0")["State"]["StartedAt"]


def test_delete_removes_everything_of_the_cluster(clusters: Clusters) -> None:
    clusters.ok("cluster", "delete", OTHER)

    containers = clusters.engine.cli("ps", "--all", "--format", "{{.Names}}").stdout
    networks = clusters.engine.cli("network", "ls", "--format", "{{.Name}}").stdout
    volumes = clusters.engine.cli("volume", "ls", "--format", "{{.Name}}").stdout
    assert f"k3d-{OTHER}" not in containers + networks + volumes
    assert f"k3d-{MAIN}" in volumes
    assert set(clusters.cluster_rows()) == {MAIN}


@pytest.mark.parametrize("how", ["docker restart", "k3d cluster stop and start"])
def test_pulls_work_after_a_restart_of_the_nodes(clusters: Clusters, how: str) -> None:
    server = f"k3d-{MAIN}-server-0"
    before = clusters.inspect(server)["NetworkSettings"]["Networks"][f"k3d-{MAIN}"]["IPAddress"]
    if how == "docker restart":
        clusters.engine.cli("restart", "--time", "5", server)
    else:
        clusters.k3d("cluster", "stop", MAIN)
        clusters.k3d("cluster", "start", MAIN)
    after = clusters.inspect(server)["NetworkSettings"]["Networks"][f"k3d-{MAIN}"]["IPAddress"]

    wait_for(lambda: clusters.run("doctor")[0] == 0, "no problems", 60)
    assert before == after


@OTHER_STORE
def test_doctor_reports_a_detached_node(clusters: Clusters) -> None:
    before = json.loads(clusters.ok("doctor", "--json"))
    folder = f"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/{clusters.name}"
    agent = f"k3d-{MAIN}-agent-1"
    clusters.engine.cli("exec", agent, "rm", "-r", folder)
    code, out, _ = clusters.run("doctor", "--json")
    problems = [check for check in json.loads(out) if not check["is_well"]]
    clusters.ok("cluster", "attach", MAIN)

    health = {"docker", "backend", "disk", "journal", "background"}
    assert {*health, "port", "stack", "loop", MAIN} == {check["about"] for check in before}
    assert code == 1
    assert [f"nodes not attached: {agent}"] == [check["sentence"] for check in problems]
    assert problems[0]["hint"] == f"autoregistry cluster attach {MAIN}"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("create", MAIN), "already exists", f"autoregistry cluster attach {MAIN}"),
        (("attach", "nowhere"), "there is no k3d cluster nowhere", "cluster create nowhere"),
        (("delete", "nowhere"), "there is no k3d cluster nowhere", "cluster create nowhere"),
        (("attach",), "which cluster?", f"cluster attach {MAIN}"),
    ],
)
def test_errors_name_the_cluster_and_the_next_command(
    clusters: Clusters, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    code, _, err = clusters.run("cluster", *arguments)

    assert code in (1, 2)
    assert message in err
    assert hint in err
    assert "Traceback" not in err
