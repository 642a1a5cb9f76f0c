"""Real k3d: nodes and pods follow builds by themselves, and a node in trouble does not delay the others."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.integration.helpers.clusters import MAIN, ONE_STORE, Clusters
from tests.integration.helpers.serving import build, wait_for

pytestmark = pytest.mark.engine

SERVER, AGENTS = f"k3d-{MAIN}-server-0", (f"k3d-{MAIN}-agent-0", f"k3d-{MAIN}-agent-1")
INGEST = "/var/lib/rancher/k3s/agent/containerd/io.containerd.content.v1.content/ingest"
_REASON = "status.containerStatuses[*].state.waiting.reason"
IMAGES, ROUNDS = 5, 10
ON_AGENT = json.dumps({"spec": {"nodeName": AGENTS[0]}})


def _held(clusters: Clusters, node: str, name: str) -> str:
    """Return the digest of the image on a node, or an empty string."""
    output = clusters.engine.cli("exec", node, "crictl", "images", "--output=json").stdout
    for image in json.loads(output)["images"]:
        if f"{clusters.name}/{name}" in (image.get("repoTags") or []):
            digests = image.get("repoDigests") or [""]  # none yet, for a moment
            return str(digests[0]).rpartition("@")[2]
    return ""


def _pull(clusters: Clusters, node: str, name: str) -> None:
    clusters.engine.cli("exec", node, "crictl", "pull", f"{clusters.name}/{name}")


def _log(clusters: Clusters) -> str:
    done = clusters.engine.cli("logs", "--tail", "80", "autoregistry")
    return done.stdout + done.stderr


@ONE_STORE
def test_fifty_rebuilds_reach_the_nodes_before_any_pull(clusters: Clusters) -> None:
    names = [f"often{number}:dev" for number in range(IMAGES)]

    def rebuild(name: str, round_: int) -> None:
        build(clusters.engine, f"{clusters.name}/{name}", f"{name} {round_}")

    with ThreadPoolExecutor(IMAGES) as builders:
        list(builders.map(rebuild, names, [0] * IMAGES))
        clusters.ok("push", "often*")
        wanted = [(node, name) for node in (SERVER, *AGENTS) for name in names]
        list(builders.map(lambda pair: _pull(clusters, *pair), wanted))
        for round_ in range(1, ROUNDS - 1):
            list(builders.map(rebuild, names, [round_] * IMAGES))
    waits = []
    for name in names:
        before = _held(clusters, AGENTS[0], name)
        rebuild(name, ROUNDS)
        built = time.monotonic()
        wait_for(lambda: _held(clusters, AGENTS[0], name) != before, name)  # noqa: B023
        waits.append(time.monotonic() - built)

    def all_current() -> bool:
        rows = {row["image"]: row for row in clusters.status()["images"]}
        return all(
            rows[name]["state"] == "in-step"
            and all(copy["is_current"] for copy in rows[name]["nodes"])
            for name in names
        )

    wait_for(all_current, "every image's last build on every node")
    then = clusters.status()["at"]
    for node, name in wanted:
        _pull(clusters, node, name)
    pulls = [pull for pull in clusters.status()["pulls"] if pull["manifest"] in names]
    after = [pull["answer"] for pull in pulls if pull["at"] > then]

    waited = sum(pull["answer"] == "pushed" for pull in pulls)
    print(f"build to node, median of {len(waits)}: {statistics.median(waits):.2f} s;", end=" ")
    print(f"of {len(pulls)} pulls by nodes, {waited} found a newer build and waited for its push")
    # A node that pulls during many builds may get 408 and ask again.
    expected = ("up-to-date", "pushed", "pushing")
    unexpected = [
        p for p in pulls if p["answer"] not in expected and "kept changing" not in p["sentence"]
    ]
    assert after == ["up-to-date"] * len(wanted)
    assert unexpected == []


@contextmanager
def _without_layers(clusters: Clusters, node: str) -> Iterator[None]:
    """Drop the node's traffic to the registry, so that its pull does not end."""
    networks = clusters.inspect("autoregistry-backend")["NetworkSettings"]["Networks"]
    rule = ("OUTPUT", "-d", networks[f"k3d-{MAIN}"]["IPAddress"], "-j", "DROP")
    clusters.engine.cli("exec", node, "iptables", "-I", *rule)
    try:
        yield
    finally:
        clusters.engine.cli("exec", node, "iptables", "-D", *rule)


@ONE_STORE
def test_node_that_pulls_while_the_tag_changes_ends_with_the_last_build(clusters: Clusters) -> None:
    """The node has no old copy yet: the kubelet is still pulling it."""
    name, two = "raced:dev", "raced:two"
    image, node = f"{clusters.name}/{name}", AGENTS[0]
    for reference, content in ((name, "one"), (two, "two")):
        build(clusters.engine, f"{clusters.name}/{reference}", content)
    clusters.ok("push", "raced:*")

    def answers() -> list[str]:
        pulls = clusters.status()["pulls"]
        return [pull["answer"] for pull in pulls if pull["manifest"] == name]

    with _without_layers(clusters, node):
        clusters.kubectl("run", "raced", "--image", image, "--overrides", ON_AGENT)
        wait_for(lambda: "up-to-date" in answers(), "the kubelet to ask")
        clusters.engine.cli("tag", f"{clusters.name}/{two}", image)
        wait_for(lambda: f"{name}  pushed in" in _log(clusters), "the push")
        assert _held(clusters, node, name) == ""
    wait_for(lambda: f"{name}  {node} pulled it in " in _log(clusters), "the last build", 60)
    clusters.kubectl("delete", "pod", "raced", "--now")

    rows = {row["image"]: row for row in clusters.status()["images"]}
    assert _held(clusters, node, name) == rows[name]["registry"] == rows[two]["registry"]


def test_push_of_an_image_for_another_processor_is_a_warning(clusters: Clusters) -> None:
    image = f"{clusters.name}/foreign:dev"
    build(clusters.engine, image, "for another", platform="linux/arm64")
    warning = "foreign:dev  is for linux/arm64, and the nodes are amd64"

    wait_for(lambda: warning in _log(clusters), warning)
    code, _, err = clusters.run("push", image)

    assert code == 0
    assert warning in err


@contextmanager
def _paused(clusters: Clusters, node: str) -> Iterator[None]:
    clusters.engine.cli("pause", node)
    try:
        yield
    finally:
        clusters.engine.cli("unpause", node)


@contextmanager
def _full(clusters: Clusters, node: str) -> Iterator[None]:
    disk = ("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", INGEST)
    clusters.engine.cli("exec", node, *disk)
    try:
        yield
    finally:
        clusters.engine.cli("exec", node, "umount", INGEST)


@contextmanager
def _slow(clusters: Clusters, node: str) -> Iterator[None]:
    clusters.engine.cli("exec", node, "pkill", "-STOP", "-x", "containerd")
    try:
        yield
    finally:
        clusters.engine.cli("exec", node, "pkill", "-CONT", "-x", "containerd")


@ONE_STORE
@pytest.mark.parametrize(
    ("trouble", "cause", "state"),
    [
        pytest.param(_paused, "it is paused", "stopped", id="down"),
        pytest.param(_full, "no space left on device", "ok", id="full"),
        pytest.param(_slow, "deadline exceeded", "does not answer", id="slow"),
    ],
)
def test_node_in_trouble_is_reported_and_does_not_delay_the_others(
    clusters: Clusters,
    trouble: Callable[[Clusters, str], AbstractContextManager[None]],
    cause: str,
    state: str,
) -> None:
    broken, name = AGENTS[1], f"{trouble.__name__.strip('_')}:dev"
    build(clusters.engine, f"{clusters.name}/{name}", "v1")
    for node in (SERVER, *AGENTS):
        _pull(clusters, node, name)
    with trouble(clusters, broken):
        before = _held(clusters, SERVER, name)
        build(clusters.engine, f"{clusters.name}/{name}", "v2", random_bytes=1 << 20)
        began = time.monotonic()
        for node in (SERVER, AGENTS[0]):
            wait_for(lambda: _held(clusters, node, name) not in ("", before), node)  # noqa: B023
        print(f"the others had it after {time.monotonic() - began:.1f} s")
        wait_for(lambda: f"{name}  {broken} could not pull it: " in _log(clusters), "the report")
        log = _log(clusters)
        states = {node["node"]: node["state"] for node in clusters.status()["nodes"]}

    report = next(line for line in log.splitlines() if f"{name}  {broken} could not" in line)
    assert cause in report
    assert states[broken] == state


@ONE_STORE
def test_stopped_node_pulls_the_new_image_when_it_starts(clusters: Clusters) -> None:
    node, name = AGENTS[1], "returns:dev"
    build(clusters.engine, f"{clusters.name}/{name}", "v1")
    _pull(clusters, node, name)
    before = _held(clusters, node, name)
    clusters.engine.cli("stop", "--time", "2", node)
    build(clusters.engine, f"{clusters.name}/{name}", "v2")
    clusters.engine.cli("start", node)

    def held() -> str:
        done = clusters.engine.cli("exec", node, "crictl", "images", check=False)
        return _held(clusters, node, name) if done.returncode == 0 else ""

    wait_for(lambda: held() not in ("", before), "the node to have v2", 60)


@ONE_STORE
def test_without_refresh_the_old_image_runs_and_why_reports_that(clusters: Clusters) -> None:
    clusters.ok("up", "--no-refresh")
    clusters.build("unrefreshed", "version 1")
    for node in (SERVER, *AGENTS):
        _pull(clusters, node, "unrefreshed:dev")
    clusters.deploy("unrefreshed")
    wait_for(lambda: clusters.pod_logs("unrefreshed") == ["version 1"], "a pod of version 1", 60)
    clusters.build("unrefreshed", "version 2")
    clusters.ok("push", "unrefreshed:dev")
    clusters.kubectl("rollout", "restart", "deployment/unrefreshed")
    clusters.kubectl("rollout", "status", "deployment/unrefreshed", "--timeout=60s")

    output = clusters.ok("why", "unrefreshed:dev")

    assert clusters.pod_logs("unrefreshed") == ["version 1"]
    assert "an old copy" in output
    assert "runs an older image, IfNotPresent" in output
    assert "does not pull again by itself (imagePullPolicy: IfNotPresent)" in output
    assert "autoregistry restart unrefreshed:dev" in output


@ONE_STORE
def test_restart_workloads_restarts_pods_with_an_old_image(clusters: Clusters) -> None:
    clusters.ok("up", "--refresh", "--restart-workloads")
    clusters.build("unattended", "version 1")
    clusters.deploy("unattended", replicas=2)
    wait_for(lambda: clusters.pod_logs("unattended") == ["version 1"] * 2, "two pods", 60)
    clusters.build("unattended", "version 2")
    built = time.monotonic()

    wait_for(lambda: clusters.pod_logs("unattended") == ["version 2"] * 2, "two new pods", 60)
    print(f"build to running pods: {time.monotonic() - built:.1f} s")
    clusters.ok("up", "--no-restart-workloads")


@ONE_STORE
def test_waiting_pods_show_push_progress_and_push_errors(clusters: Clusters) -> None:
    blocked = "/var/lib/registry/docker/registry/v2/repositories/blocked"
    clusters.engine.cli("exec", "autoregistry-backend", "touch", blocked)
    for name in ("large", "blocked"):
        clusters.deploy(name)
    for name in ("large", "blocked"):
        wait_for(lambda: "ImagePull" in clusters.pods(name, _REASON), name, 60)  # noqa: B023
    build(clusters.engine, f"{clusters.name}/blocked:dev", "v1")
    build(clusters.engine, f"{clusters.name}/large:dev", "v1", random_bytes=350 << 20)

    def describe(name: str) -> str:
        return clusters.kubectl("describe", "pods", "--selector", f"app={name}")

    wait_for(lambda: "autoregistry: pushing large:dev, " in describe("large"), "the progress")
    wait_for(lambda: "blocked:dev could not be pushed: " in describe("blocked"), "the error", 60)
    clusters.kubectl("delete", "deployment", "large", "blocked")
    clusters.engine.cli("exec", "autoregistry-backend", "rm", blocked)


@ONE_STORE
def test_restart_includes_init_containers_and_reports_jobs_and_bare_pods(
    clusters: Clusters,
) -> None:
    clusters.build("kinds", "version 1")
    image = f"{clusters.name}/kinds:dev"
    once = {"restartPolicy": "Never", "containers": [_container("main", image, "true")]}
    manifests = [
        _manifest("Pod", "alone", {"containers": [_container("main", image, "sleep", "1d")]}),
        _manifest("Job", "once", {"template": {"spec": once}}),
        _manifest(
            "CronJob",
            "nightly",
            {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": once}}}},
        ),
        _manifest(
            "Deployment",
            "prepares",
            {
                "selector": {"matchLabels": {"app": "prepares"}},
                "template": {
                    "metadata": {"labels": {"app": "prepares"}},
                    "spec": {
                        "initContainers": [_container("first", image, "true")],
                        "containers": [_container("main", "busybox:latest", "sleep", "1d")],
                    },
                },
            },
        ),
    ]
    for manifest in manifests:
        clusters.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    clusters.kubectl("create", "job", "extra", "--from=cronjob/nightly")
    for job in ("once", "extra"):
        clusters.kubectl("wait", f"job/{job}", "--for=condition=complete", "--timeout=60s")
    clusters.kubectl("wait", "pod/alone", "--for=condition=ready", "--timeout=60s")
    digest = "jsonpath={.items[*].status.initContainerStatuses[*].imageID}"
    prepared = ("get", "pods", "--selector", "app=prepares", "--output", digest)
    wait_for(lambda: clusters.kubectl(*prepared), "the init container to have run", 60)
    clusters.build("kinds", "version 2")
    clusters.ok("push", "kinds:dev")

    code, out, err = clusters.run("restart", "kinds:dev")
    for name in ("pod/alone", "job/once", "cronjob/nightly", "deployment/prepares"):
        clusters.kubectl("delete", name, "--wait=false")

    assert code == 0
    assert f"{MAIN}  restarted deployment/prepares in default" in out
    assert f"{MAIN}  job/once in default: at its next run" in err
    assert f"{MAIN}  cronjob/nightly in default: at its next run" in err
    assert f"{MAIN}  pod/alone in default has no owner" in err


def _container(name: str, image: str, *command: str) -> dict[str, object]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
    }


def _manifest(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    version = {"Pod": "v1", "Deployment": "apps/v1"}.get(kind, "batch/v1")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
