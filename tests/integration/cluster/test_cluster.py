"""Real k3d 5.9 with a real kubelet, on both image stores: from a build to a running pod, without a push."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dev import lab, node
from dev.lab import Docker
from tests.integration.helpers.serving import wait_for
from tests.integration.helpers.shared import shared
from tests.integration.stack.test_stack import Typed, only_stack

pytestmark = pytest.mark.engine

EXAMPLE = Path(__file__).parents[3] / "examples" / "k3d"
MAIN, OTHER = "ar-main", "ar-other"
ONE_STORE = pytest.mark.parametrize("engine", ["classic"], indirect=True)
"""Where the image store makes no difference."""
OTHER_STORE = pytest.mark.parametrize("engine", ["containerd"], indirect=True)
"""The same, where the other daemon has less to do."""


class Clusters(Typed):
    """`autoregistry`, `k3d` and `kubectl` in one daemon's environment."""

    def __init__(self, engine: Docker) -> None:
        super().__init__(engine)
        self._environment = {**os.environ, **node.environment(engine)}
        self.flags = node.create_arguments(engine)

    def k3d(self, *words: str) -> str:
        done = subprocess.run(
            ["k3d", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listed(self) -> dict[str, Any]:
        """What `cluster list` says, by the cluster's name."""
        rows = json.loads(self.ok("cluster", "list", "--json"))
        return {row["name"]: row for row in rows}

    def kubectl(self, *words: str, cluster: str = MAIN, stdin: str = "", check: bool = True) -> str:
        argv = ["exec", "--interactive", f"k3d-{cluster}-server-0", "kubectl", *words]
        return self.engine.cli(*argv, input=stdin, check=check).stdout

    def build(self, name: str, content: str) -> None:
        """Build the example, under another name and with other content."""
        page = EXAMPLE / "index.html"
        context = self.folder / "context"
        context.mkdir(parents=True, exist_ok=True)
        (context / "Dockerfile").write_text((EXAMPLE / "Dockerfile").read_text())
        (context / page.name).write_text(f"{content}\n")  # a log holds whole lines
        env = {"DOCKER_BUILDKIT": "0"} if self.engine.store == "classic" else {}
        self.engine.cli("build", "--quiet", "--tag", f"{self.name}/{name}:dev", context, env=env)

    def deploy(self, name: str, replicas: int = 1, tag: str = "dev") -> None:
        """Apply the example's deployment, under another name."""
        manifest = (EXAMPLE / "deployment.yaml").read_text()
        manifest = manifest.replace("localhost:5000/hello", f"{self.name}/{name}")
        manifest = (
            manifest.replace(":dev", f":{tag}")
            .replace("hello", name)
            .replace("replicas: 1", f"replicas: {replicas}")
        )
        self.kubectl("apply", "-f", "-", stdin=manifest)

    def pods(self, name: str, path: str) -> str:
        """What kubectl says of a deployment's pods, by JSONPath."""
        shown = f"--output=jsonpath={{.items[*].{path}}}"
        return self.kubectl("get", "pods", f"--selector=app={name}", shown)

    def status(self) -> dict[str, Any]:
        """What the proxy says of itself."""
        url = f"http://127.0.0.1:{self.port}/_autoregistry/status"
        answer = httpx.get(url, headers={"Host": self.name}, trust_env=False, timeout=30)
        return dict(answer.json())

    def says(self, name: str) -> list[str]:
        """What the running pods of a deployment have printed."""
        listed = self.kubectl("get", "pods", "--selector", f"app={name}", "--output=json")
        return [
            self.kubectl("logs", pod["metadata"]["name"], check=False).strip()
            for pod in json.loads(listed)["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]

    folder: Path


def make_clusters(engine: Docker, folder: Path, stack: ExitStack) -> Clusters:
    for name in ("registry:2", "python:3.13-slim", "busybox:latest"):
        lab.image(engine, name)
    made = Clusters(engine)
    made.folder = folder

    def delete() -> None:
        for cluster in (MAIN, OTHER):
            made.k3d("cluster", "delete", cluster)

    stack.enter_context(only_stack(engine))  # before anything of that name is taken away
    delete()
    stack.callback(delete)
    stack.callback(made.run, "logs", "--tail", "30")
    made.ok("up", "--port", str(made.port))
    made.ok("cluster", "create", MAIN, "--", *made.flags, "--agents", "2")
    return made


@pytest.fixture(scope="module")
def clusters(engine: Docker, tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    """A stack and a cluster of three nodes, made by `cluster create` alone; other modules may share it."""
    folder = tmp_path_factory.mktemp("clusters")
    return shared(engine.store, lambda stack: make_clusters(engine, folder, stack))


def test_a_created_cluster_is_attached_with_every_node(clusters: Clusters) -> None:
    assert clusters.listed()[MAIN] == {
        "name": MAIN,
        "nodes": 3,
        "running": 3,
        "attached": 3,
        "via": "Docker's network",
    }


def test_our_containers_take_addresses_no_node_will_look_for(clusters: Clusters) -> None:
    shown = clusters.engine.cli("network", "inspect", f"k3d-{MAIN}").stdout
    addresses = {
        container["Name"]: int(container["IPv4Address"].partition("/")[0].rpartition(".")[2])
        for container in json.loads(shown)[0]["Containers"].values()
    }

    ours = {addresses.pop("autoregistry"), addresses.pop("autoregistry-backend")}
    assert ours == {253, 252}
    assert max(addresses.values()) < 10


def test_a_built_image_runs_and_a_rebuilt_one_after_one_command(clusters: Clusters) -> None:
    """The promise, end to end, on three nodes and with the default pull policy."""
    clusters.build("promise", "version 1")
    clusters.deploy("promise", replicas=3)
    wait_for(lambda: clusters.says("promise") == ["version 1"] * 3, "three pods of version 1", 90)
    clusters.build("promise", "version 2")
    clusters.kubectl("scale", "deployment/promise", "--replicas=4")

    clusters.ok("restart", "promise:dev")

    wait_for(lambda: set(clusters.says("promise")) == {"version 2"}, "pods of version 2", 90)
    code, _, err = clusters.run("restart", "promise:dev")
    assert code == 0
    assert "nothing runs an old copy" in err


def test_what_tilt_deploys_and_nobody_pushed_runs(clusters: Clusters) -> None:
    """Tilt builds `tilt-build-<time>` with `disable_push`, retags it by its content and deploys that."""
    built, deployed = "tilt-build-1790000000", "tilt-0123456789abcdef"
    clusters.build("tilted", "from Tilt")
    for tag in (built, deployed):
        clusters.engine.cli("tag", f"{clusters.name}/tilted:dev", f"{clusters.name}/tilted:{tag}")
    clusters.deploy("tilted", tag=deployed)

    wait_for(lambda: clusters.says("tilted") == ["from Tilt"], "the pod to run", 60)


def test_tilt_is_told_our_name_by_the_words_the_tiltfile_reads(clusters: Clusters) -> None:
    tiltfile = (EXAMPLE.parents[1] / "Tiltfile").read_text()
    line = next(line for line in tiltfile.splitlines() if line.startswith("READ_CONFIG_MAP"))
    words = shlex.split(ast.literal_eval(line.partition(" = ")[2]).removesuffix(" || true"))

    told = yaml.safe_load(clusters.kubectl(*words[3:]))  # after `kubectl --context %s`

    assert told["host"] == clusters.name


def test_nodes_that_hold_an_old_copy_follow_a_build_by_themselves(clusters: Clusters) -> None:
    server, reference = f"k3d-{MAIN}-server-0", f"{clusters.name}/follows:dev"

    def held() -> str:
        shown = clusters.engine.cli("exec", server, "crictl", "images", "--output=json").stdout
        images = json.loads(shown)["images"]
        return next((i["id"] for i in images if reference in (i.get("repoTags") or [])), "")

    clusters.build("follows", "version 1")
    clusters.engine.cli("exec", server, "crictl", "pull", reference)
    first = held()
    clusters.build("follows", "version 2")

    wait_for(lambda: held() not in ("", first), "the node to hold the new image")


@ONE_STORE
def test_a_pod_that_waits_in_back_off_runs_as_soon_as_the_image_is_built(
    clusters: Clusters,
) -> None:
    clusters.deploy("waits")

    reason = "status.containerStatuses[*].state.waiting.reason"
    wait_for(lambda: clusters.pods("waits", reason) == "ImagePullBackOff", "a back-off", 60)
    clusters.build("waits", "at last")
    built = time.monotonic()

    wait_for(lambda: clusters.says("waits") == ["at last"], "the pod to run", 30)
    print(f"build to running pod, out of a back-off: {time.monotonic() - built:.1f} s")


def test_the_cause_of_a_failed_pull_is_in_kubectl_describe(clusters: Clusters) -> None:
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


def test_whatever_starts_is_attached_when_that_was_asked_for(clusters: Clusters) -> None:
    """A cluster started by k3d alone, and a node added to it later."""
    clusters.ok("up", "--attach-all")
    clusters.k3d("cluster", "create", OTHER, *clusters.flags)
    wait_for(
        lambda: clusters.listed()[OTHER]["attached"] == 1, "the new cluster to be attached", 60
    )
    image = clusters.flags[clusters.flags.index("--image") + 1]
    clusters.k3d("node", "create", "later", "--cluster", OTHER, "--image", image, "--role", "agent")

    wait_for(lambda: clusters.listed()[OTHER]["attached"] == 2, "the new node to be attached", 60)
    clusters.ok("up", "--no-attach-all")


def test_a_running_cluster_is_attached_and_let_go_without_a_restart(clusters: Clusters) -> None:
    """Twice each: what is done already is no error, and changes nothing."""
    started = clusters.inspect(f"k3d-{OTHER}-server-0")["State"]["StartedAt"]
    for _ in range(2):
        clusters.ok("cluster", "detach", OTHER)
    detached = clusters.listed()[OTHER]
    for _ in range(2):
        clusters.ok("cluster", "attach", OTHER)
    attached = clusters.listed()[OTHER]
    found = clusters.kubectl(
        "get", "configmap", "-n", "kube-public", "local-registry-hosting", cluster=OTHER
    )

    assert (attached["attached"], attached["via"]) == (2, "Docker's network")
    assert (detached["attached"], detached["via"]) == (0, "not attached")
    assert "local-registry-hosting" in found
    assert started == clusters.inspect(f"k3d-{OTHER}-server-0")["State"]["StartedAt"]


def test_delete_leaves_nothing_behind(clusters: Clusters) -> None:
    clusters.ok("cluster", "delete", OTHER)

    containers = clusters.engine.cli("ps", "--all", "--format", "{{.Names}}").stdout
    networks = clusters.engine.cli("network", "ls", "--format", "{{.Name}}").stdout
    volumes = clusters.engine.cli("volume", "ls", "--format", "{{.Name}}").stdout
    assert f"k3d-{OTHER}" not in containers + networks + volumes
    assert f"k3d-{MAIN}" in volumes
    assert set(clusters.listed()) == {MAIN}


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

    wait_for(lambda: clusters.run("doctor")[0] == 0, "everything to be well", 60)
    assert before == after


@OTHER_STORE
def test_the_doctor_finds_everything_well_and_says_what_is_not(clusters: Clusters) -> None:
    well = json.loads(clusters.ok("doctor", "--json"))
    folder = f"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/{clusters.name}"
    agent = f"k3d-{MAIN}-agent-1"
    clusters.engine.cli("exec", agent, "rm", "-r", folder)
    code, out, _ = clusters.run("doctor", "--json")
    ill = [check for check in json.loads(out) if not check["is_well"]]
    clusters.ok("cluster", "attach", MAIN)

    assert {"docker", "port", "stack", "loop", MAIN} == {check["about"] for check in well}
    assert code == 1
    assert [f"not attached: {agent}"] == [check["sentence"] for check in ill]
    assert ill[0]["hint"] == f"autoregistry cluster attach {MAIN}"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("create", MAIN), "already exists", f"autoregistry cluster attach {MAIN}"),
        (("attach", "nowhere"), "there is no k3d cluster nowhere", "cluster create nowhere"),
        (("delete", "nowhere"), "there is no k3d cluster nowhere", "cluster create nowhere"),
        (("attach",), "which cluster?", f"cluster attach {MAIN}"),
    ],
)
def test_errors_name_the_thing_and_the_next_command(
    clusters: Clusters, words: tuple[str, ...], message: str, hint: str
) -> None:
    code, _, err = clusters.run("cluster", *words)

    assert code in (1, 2)
    assert message in err
    assert hint in err
    assert "Traceback" not in err
