"""Real k3d: what is built is on the nodes and in the pods by itself; who cannot follow holds nobody up."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.integration.cluster.test_cluster import MAIN, ONE_STORE, Clusters, clusters
from tests.integration.helpers.serving import build, wait_for

pytestmark = pytest.mark.engine
__all__ = ["clusters"]  # the fixture, shared with that module

SERVER, AGENTS = f"k3d-{MAIN}-server-0", (f"k3d-{MAIN}-agent-0", f"k3d-{MAIN}-agent-1")
INGEST = "/var/lib/rancher/k3s/agent/containerd/io.containerd.content.v1.content/ingest"
_REASON = "status.containerStatuses[*].state.waiting.reason"
IMAGES, ROUNDS = 5, 10
ON_AGENT = json.dumps({"spec": {"nodeName": AGENTS[0]}})


def _held(clusters: Clusters, node: str, name: str) -> str:
    """The digest of the image on a node; empty where it has none."""
    shown = clusters.engine.cli("exec", node, "crictl", "images", "--output=json").stdout
    for image in json.loads(shown)["images"]:
        if f"{clusters.name}/{name}" in (image.get("repoTags") or []):
            digests = image.get("repoDigests") or [""]  # none yet, for a moment
            return str(digests[0]).rpartition("@")[2]
    return ""


def _pull(clusters: Clusters, node: str, name: str) -> None:
    clusters.engine.cli("exec", node, "crictl", "pull", f"{clusters.name}/{name}")


def _log(clusters: Clusters) -> str:
    said = clusters.engine.cli("logs", "--tail", "80", "autoregistry")
    return said.stdout + said.stderr


@ONE_STORE
def test_fifty_rebuilds_are_on_the_nodes_before_anybody_asks(clusters: Clusters) -> None:
    names = [f"often{number}:dev" for number in range(IMAGES)]

    def rebuild(name: str, round_: int) -> None:
        build(clusters.engine, f"{clusters.name}/{name}", f"{name} {round_}")

    with ThreadPoolExecutor(IMAGES) as people:
        list(people.map(rebuild, names, [0] * IMAGES))
        clusters.ok("push", "often*")
        wanted = [(node, name) for node in (SERVER, *AGENTS) for name in names]
        list(people.map(lambda pair: _pull(clusters, *pair), wanted))
        for round_ in range(1, ROUNDS - 1):
            list(people.map(rebuild, names, [round_] * IMAGES))
    waits = []
    for name in names:
        before = _held(clusters, AGENTS[0], name)
        rebuild(name, ROUNDS)
        built = time.monotonic()
        wait_for(lambda: _held(clusters, AGENTS[0], name) != before, name)  # noqa: B023
        waits.append(time.monotonic() - built)

    def are_there() -> bool:
        rows = {row["image"]: row for row in clusters.status()["images"]}
        return all(
            rows[name]["state"] == "in-step"
            and all(held["is_current"] for held in rows[name]["nodes"])
            for name in names
        )

    wait_for(are_there, "every image's last build on every node")
    then = clusters.status()["at"]
    for node, name in wanted:
        _pull(clusters, node, name)
    pulls = [said for said in clusters.status()["pulls"] if said["manifest"] in names]
    after = [said["answer"] for said in pulls if said["at"] > then]

    waited = sum(said["answer"] == "pushed" for said in pulls)
    print(f"build to node, median of {len(waits)}: {statistics.median(waits):.2f} s;", end=" ")
    print(f"of {len(pulls)} pulls by nodes, {waited} met a yet newer build and waited for its push")
    # A node that pulls just when everybody builds may be told to ask again.
    fine = ("up-to-date", "pushed", "pushing")
    unwell = [p for p in pulls if p["answer"] not in fine and "kept changing" not in p["sentence"]]
    assert after == ["up-to-date"] * len(wanted)
    assert unwell == []


@contextmanager
def _without_layers(clusters: Clusters, node: str) -> Iterator[None]:
    """A node that is told where a layer is, and gets none of it: so a pull lasts."""
    networks = clusters.inspect("autoregistry-backend")["NetworkSettings"]["Networks"]
    rule = ("OUTPUT", "-d", networks[f"k3d-{MAIN}"]["IPAddress"], "-j", "DROP")
    clusters.engine.cli("exec", node, "iptables", "-I", *rule)
    try:
        yield
    finally:
        clusters.engine.cli("exec", node, "iptables", "-D", *rule)


@ONE_STORE
def test_a_node_that_pulls_while_the_tag_changes_has_the_last_build(clusters: Clusters) -> None:
    """It holds nothing that could be old yet: the kubelet is at it."""
    name, two = "raced:dev", "raced:two"
    image, node = f"{clusters.name}/{name}", AGENTS[0]
    for reference, content in ((name, "one"), (two, "two")):
        build(clusters.engine, f"{clusters.name}/{reference}", content)
    clusters.ok("push", "raced:*")

    def answers() -> list[str]:
        pulls = clusters.status()["pulls"]
        return [said["answer"] for said in pulls if said["manifest"] == name]

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


def test_an_image_for_another_processor_is_named_as_it_is_pushed(clusters: Clusters) -> None:
    image = f"{clusters.name}/foreign:dev"
    build(clusters.engine, image, "for another", platform="linux/arm64")
    remark = "foreign:dev  is for linux/arm64, and the nodes are amd64"

    wait_for(lambda: remark in _log(clusters), remark)
    code, _, err = clusters.run("push", image)

    assert code == 0
    assert remark in err


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
def test_a_node_in_trouble_is_named_and_holds_nobody_up(
    clusters: Clusters,
    trouble: Callable[[Clusters, str], AbstractContextManager[None]],
    cause: str,
    state: str,
) -> None:
    ill, name = AGENTS[1], f"{trouble.__name__.strip('_')}:dev"
    build(clusters.engine, f"{clusters.name}/{name}", "v1")
    for node in (SERVER, *AGENTS):
        _pull(clusters, node, name)
    with trouble(clusters, ill):
        before = _held(clusters, SERVER, name)
        build(clusters.engine, f"{clusters.name}/{name}", "v2", random_bytes=1 << 20)
        began = time.monotonic()
        for node in (SERVER, AGENTS[0]):
            wait_for(lambda: _held(clusters, node, name) not in ("", before), node)  # noqa: B023
        print(f"the others had it after {time.monotonic() - began:.1f} s")
        wait_for(lambda: f"{name}  {ill} could not pull it: " in _log(clusters), "it is named")
        log = _log(clusters)
        states = {node["node"]: node["state"] for node in clusters.status()["nodes"]}

    named = next(line for line in log.splitlines() if f"{name}  {ill} could not" in line)
    assert cause in named
    assert states[ill] == state


@ONE_STORE
def test_a_node_that_was_away_follows_when_it_comes_back(clusters: Clusters) -> None:
    ill, name = AGENTS[1], "returns:dev"
    build(clusters.engine, f"{clusters.name}/{name}", "v1")
    _pull(clusters, ill, name)
    before = _held(clusters, ill, name)
    clusters.engine.cli("stop", "--time", "2", ill)
    build(clusters.engine, f"{clusters.name}/{name}", "v2")
    clusters.engine.cli("start", ill)

    def held() -> str:
        shown = clusters.engine.cli("exec", ill, "crictl", "images", check=False)
        return _held(clusters, ill, name) if shown.returncode == 0 else ""

    wait_for(lambda: held() not in ("", before), "the node that came back to have v2", 60)


@ONE_STORE
def test_with_no_refresh_the_old_one_runs_and_why_says_so(clusters: Clusters) -> None:
    clusters.ok("up", "--no-refresh")
    clusters.build("unrefreshed", "version 1")
    for node in (SERVER, *AGENTS):
        _pull(clusters, node, "unrefreshed:dev")
    clusters.deploy("unrefreshed")
    wait_for(lambda: clusters.says("unrefreshed") == ["version 1"], "a pod of version 1", 60)
    clusters.build("unrefreshed", "version 2")
    clusters.ok("push", "unrefreshed:dev")
    clusters.kubectl("rollout", "restart", "deployment/unrefreshed")
    clusters.kubectl("rollout", "status", "deployment/unrefreshed", "--timeout=60s")

    said = clusters.ok("why", "unrefreshed:dev")

    assert clusters.says("unrefreshed") == ["version 1"]
    assert "an old copy" in said
    assert "runs an older image, IfNotPresent" in said
    assert "does not ask (imagePullPolicy: IfNotPresent) until it is made to" in said
    assert "autoregistry restart unrefreshed:dev" in said


@ONE_STORE
def test_what_runs_an_old_copy_is_restarted_without_a_command(clusters: Clusters) -> None:
    clusters.ok("up", "--refresh", "--restart-workloads")
    clusters.build("unattended", "version 1")
    clusters.deploy("unattended", replicas=2)
    wait_for(lambda: clusters.says("unattended") == ["version 1"] * 2, "two pods", 60)
    clusters.build("unattended", "version 2")
    built = time.monotonic()

    wait_for(lambda: clusters.says("unattended") == ["version 2"] * 2, "two new pods", 60)
    print(f"build to running pods: {time.monotonic() - built:.1f} s")
    clusters.ok("up", "--no-restart-workloads")


@ONE_STORE
def test_pods_that_wait_say_how_far_the_push_is_and_why_it_failed(clusters: Clusters) -> None:
    blocked = "/var/lib/registry/docker/registry/v2/repositories/blocked"
    clusters.engine.cli("exec", "autoregistry-backend", "touch", blocked)
    for name in ("large", "blocked"):
        clusters.deploy(name)
    for name in ("large", "blocked"):
        wait_for(lambda: "ImagePull" in clusters.pods(name, _REASON), name, 60)  # noqa: B023
    build(clusters.engine, f"{clusters.name}/blocked:dev", "v1")
    build(clusters.engine, f"{clusters.name}/large:dev", "v1", random_bytes=350 << 20)

    def told(name: str) -> str:
        return clusters.kubectl("describe", "pods", "--selector", f"app={name}")

    wait_for(lambda: "autoregistry: pushing large:dev, " in told("large"), "how far it is")
    wait_for(lambda: "blocked:dev could not be pushed: " in told("blocked"), "why it failed", 60)
    clusters.kubectl("delete", "deployment", "large", "blocked")
    clusters.engine.cli("exec", "autoregistry-backend", "rm", blocked)


@ONE_STORE
def test_jobs_and_bare_pods_are_named_and_init_containers_count(clusters: Clusters) -> None:
    clusters.build("kinds", "version 1")
    image = f"{clusters.name}/kinds:dev"
    once = {"restartPolicy": "Never", "containers": [_container("main", image, "true")]}
    things = [
        _thing("Pod", "alone", {"containers": [_container("main", image, "sleep", "1d")]}),
        _thing("Job", "once", {"template": {"spec": once}}),
        _thing(
            "CronJob",
            "nightly",
            {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": once}}}},
        ),
        _thing(
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
    for thing in things:
        clusters.kubectl("apply", "-f", "-", stdin=json.dumps(thing))
    clusters.kubectl("create", "job", "by-hand", "--from=cronjob/nightly")
    for job in ("once", "by-hand"):
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
    assert f"{MAIN}  pod/alone in default belongs to nothing" in err


def _container(name: str, image: str, *command: str) -> dict[str, object]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
    }


def _thing(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    version = {"Pod": "v1", "Deployment": "apps/v1"}.get(kind, "batch/v1")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
