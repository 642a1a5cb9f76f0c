"""`refresh` and `restart` of a cluster of one node that pulls through a running proxy."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from autoregistry.cluster.mirror_config import Mirror, hosts_toml
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Containers
from autoregistry.names import RegistryNames
from autoregistry.proxy import app
from autoregistry.proxy.watch import node_refresh
from autoregistry.settings import Address, Settings
from tests.fakes.docker import NONCE, FakeDocker
from tests.fakes.engine import FakeEngine
from tests.fakes.registry import FakeRegistry
from tests.helpers.commands import Type
from tests.helpers.event_loop import ThreadedLoop
from tests.helpers.k3d_cluster import SERVER, add_cluster
from tests.helpers.plain_http import PLAIN
from tests.helpers.proxy_lab import NODE_ACCEPT

IMAGE = "shop/api:dev"


@dataclass
class Cluster:
    """A node that pulls, and a Deployment whose pod runs there."""

    port: int
    docker: FakeDocker
    digests: dict[str, str] = field(default_factory=dict)
    """The node's images: references with digests."""
    running: str = ""
    """The digest that the pod runs; empty without a pod."""

    @property
    def reference(self) -> str:
        return f"localhost:{self.port}/{IMAGE}"

    def deploy(self, content: str) -> None:
        """Build the image, pull it in the node, and run it."""
        self.docker.build(self.reference, content)
        self._pull(self.reference)
        self.running = self.digests[self.reference]

    def run(self, argv: list[str]) -> tuple[int, str]:
        match argv:
            case ["cat", path] if f"localhost:{self.port}" in path:
                return 0, hosts_toml(Mirror.of(self.port, None), f"localhost:{self.port}")
            case ["crictl", "images", _]:
                return 0, json.dumps({"images": [self._image(r) for r in self.digests]})
            case ["crictl", "pull", reference]:
                return self._pull(reference)
            case ["kubectl", "get", *_]:
                return 0, json.dumps({"items": self._items() if self.running else []})
            case ["kubectl", "rollout", "restart", *_]:
                self.running = self.digests[self.reference]
        return 0, ""

    def _pull(self, reference: str) -> tuple[int, str]:
        repository, _, tag = reference.partition("/")[2].rpartition(":")
        url = f"http://127.0.0.1:{self.port}/v2/{repository}/manifests/{tag}"
        headers = {"User-Agent": "containerd/2.3.7", "Accept": NODE_ACCEPT}
        answer = httpx.head(url, headers=headers, trust_env=False, verify=PLAIN, timeout=20)
        if answer.status_code != 200:
            return 1, ""
        self.digests[reference] = answer.headers["Docker-Content-Digest"]
        return 0, ""

    def _image(self, reference: str) -> dict[str, list[str]]:
        digest = f"{reference.rpartition(':')[0]}@{self.digests[reference]}"
        return {"repoTags": [reference], "repoDigests": [digest]}

    def _items(self) -> list[dict[str, Any]]:
        owner = {"kind": "Deployment", "name": "api", "controller": True}
        metadata = {"name": "api-1", "namespace": "shop", "ownerReferences": [owner]}
        spec = {
            "nodeName": SERVER,
            "containers": [{"name": "api", "image": self.reference}],
        }
        status = {"containerStatuses": [{"name": "api", "imageID": f"x@{self.running}"}]}
        return [{"kind": "Pod", "metadata": metadata, "spec": spec, "status": status}]


@pytest.fixture(params=["containerd", "classic"])
def cluster(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    engine: FakeEngine,
    background: ThreadedLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    registry, docker = FakeRegistry(), FakeDocker(request.param)
    background.do(registry.__aenter__())
    settings = Settings(
        listen=(Address("127.0.0.1", port),),
        backend=registry.url,
        names=RegistryNames.local(port),
        state=tmp_path,
        watch=False,
        refresh=False,
    )
    add_cluster(engine)
    cluster = Cluster(port, docker)
    engine.run = cluster.run
    parts = app.Docker(docker, docker.follow, Nodes(Containers(engine.daemon)), NONCE)
    docker.proxy = f"http://127.0.0.1:{port}"
    running = app.running(settings, parts, lambda _: None)
    background.do(running.__aenter__())
    monkeypatch.setenv("AUTOREGISTRY_NAME", f"localhost:{port}")
    yield cluster
    background.do(running.__aexit__(None, None, None))
    background.do(registry.__aexit__(None, None, None))


def test_refresh_makes_docker_push_and_the_node_pull(cluster: Cluster, typed: Type) -> None:
    cluster.deploy("v1")
    cluster.docker.build(cluster.reference, "v2")

    first, again = typed("refresh", IMAGE, "--cluster", "dev"), typed("refresh", IMAGE)

    assert first.stderr == f"{IMAGE}  {SERVER} has it now\n"
    assert again.stderr == f"{IMAGE}  no node has an old copy\n"
    assert first.exit_code == again.exit_code == 0
    assert cluster.digests[cluster.reference] != cluster.running


def test_refresh_pushes_nothing_that_no_node_needs(cluster: Cluster, typed: Type) -> None:
    cluster.docker.build(cluster.reference, "v1")

    done = typed("refresh", IMAGE)

    assert (done.exit_code, done.stderr) == (0, f"{IMAGE}  no node has an old copy\n")
    assert cluster.digests == {}


def test_refresh_waits_for_a_slow_node(
    cluster: Cluster, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.deploy("v1")
    cluster.docker.build(cluster.reference, "v2")
    monkeypatch.setattr(node_refresh, "LATE_SECONDS", 0.2)
    cluster.docker.push_seconds = 0.5

    done = typed("refresh", IMAGE)

    assert done.stderr.splitlines() == [
        f"{IMAGE}  {SERVER}: not finished after 0 s",
        f"{IMAGE}  {SERVER} has it now",
    ]


def test_refresh_of_an_image_that_does_not_exist_is_an_error(cluster: Cluster, typed: Type) -> None:
    failed = typed("refresh", IMAGE)

    assert (failed.exit_code, failed.stderr) == (
        1,
        f"{IMAGE}  the registry has no {IMAGE}\n"
        f"error: not every node has {IMAGE}\nhint: autoregistry doctor\n",
    )


def test_restart_does_not_restart_if_a_node_cannot_pull(cluster: Cluster, typed: Type) -> None:
    cluster.deploy("v1")
    cluster.docker.build(cluster.reference, "v2")
    cluster.docker.push_error = "no space left on device"
    before = cluster.running

    failed = typed("restart", IMAGE)

    assert failed.exit_code == 1
    assert failed.stderr == (
        f"{IMAGE}  {SERVER}: no error message\n"
        f"error: not every node could pull {IMAGE}\nhint: autoregistry doctor\n"
    )
    assert cluster.running == before


def test_restart_restarts_what_runs_an_old_copy(cluster: Cluster, typed: Type) -> None:
    cluster.deploy("v1")
    cluster.docker.build(cluster.reference, "v2")

    first, again = typed("restart", IMAGE), typed("restart", IMAGE)

    assert first.stdout == "dev  restarted deployment/api in shop\n"
    assert again.stderr.splitlines()[-1] == f"{IMAGE}  nothing runs an old copy of it"
    assert cluster.running == cluster.digests[cluster.reference]


@pytest.mark.parametrize("is_pushed", [False, True])
def test_dry_run_prints_what_a_restart_would_restart_and_changes_nothing(
    cluster: Cluster, typed: Type, *, is_pushed: bool
) -> None:
    cluster.deploy("v1")
    cluster.docker.build(cluster.reference, "v2")
    if is_pushed:
        typed("push", IMAGE)

    before = dict(cluster.digests)

    dry = typed("restart", IMAGE, "--dry-run")
    has_changed = cluster.digests != before
    done = typed("restart", IMAGE)
    after = typed("restart", IMAGE, "--dry-run")

    assert dry.stdout == "dev  would restart deployment/api in shop\n"
    assert not has_changed
    assert done.stdout == "dev  restarted deployment/api in shop\n"
    assert after.stderr == f"{IMAGE}  nothing runs an old copy of it\n"


def test_proxy_that_is_not_running_is_an_error(
    cluster: Cluster, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.deploy("v1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        cluster.port = free.getsockname()[1]
    monkeypatch.setenv("AUTOREGISTRY_NAME", f"localhost:{cluster.port}")

    failed = typed("restart", IMAGE)

    assert failed.exit_code == 1
    assert failed.stderr.startswith(
        f"error: the proxy at localhost:{cluster.port} does not answer: "
    )
    assert failed.stderr.endswith("hint: autoregistry status\n")
