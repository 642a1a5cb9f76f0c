"""Nodes with an old copy of a changed tag, and nodes with a pod that waits for it, are made to pull it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from autoregistry import api_paths
from autoregistry.cluster.pods import ContainerUse, Workload
from autoregistry.engine.events import ContainerEvent
from autoregistry.errors import ClusterRefused
from autoregistry.events import Event, NodeRefreshed, NodeRefreshing, Notice, WorkloadRestarted
from autoregistry.image_state import RefreshState
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.background import Background
from autoregistry.proxy.watch import node_refresh
from autoregistry.proxy.watch.async_nodes import AsyncNodes
from autoregistry.proxy.watch.node_refresh import NodeRefresher
from tests.fakes.docker import MANIFEST_TYPE, FakeImage
from tests.fakes.nodes import FakeNodes, node, waiting
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
OLD = frozenset({"sha256:old"})
IMAGE = Image("app", "dev")


@dataclass
class Lone:
    """A refresher without a proxy."""

    nodes: FakeNodes = field(default_factory=FakeNodes)
    events: list[Event] = field(default_factory=list)
    refresher: NodeRefresher = field(init=False)


@pytest.fixture
async def lone() -> AsyncIterator[Lone]:
    lone = Lone()
    background = Background(lone.events.append)
    nodes = AsyncNodes(lone.nodes, RegistryNames(NAME, ()), background)
    lone.refresher = NodeRefresher(nodes, lone.events.append)
    yield lone
    await background.stop()


def _refreshed(lab: Lab | Lone) -> list[tuple[str, str]]:
    return [(e.node, e.cause) for e in lab.events if isinstance(e, NodeRefreshed)]


async def test_only_nodes_with_an_old_copy_pull(lab: Lab) -> None:
    built = lab.docker.build(APP, "v2")
    current = frozenset({built.digest})
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: current}, node("c"): {}}

    await lab.pull()
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", APP)]
    assert _refreshed(lab) == [("a", "")]


async def test_node_with_a_waiting_pod_pulls_without_having_a_copy(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.nodes.images = {node("a"): {}, node("b"): {}}
    lab.nodes.pods = [waiting("b", APP), waiting("a", f"{NAME}/other:dev")]

    await lab.pull()
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("b", APP)]
    woken = [words for _, words, _ in lab.nodes.kubectl_calls]
    assert [words[:3] for words in woken] == [("annotate", "pods", "app-1")]


async def test_node_that_cannot_pull_is_reported_and_delays_no_other(lab: Lab) -> None:
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.broken = {"a": "no space left on device"}

    answer = await lab.pull()
    await until(lambda: len(_refreshed(lab)) == 2)

    assert answer.status_code == 200
    assert lab.nodes.pulled == [("b", APP)]
    assert {("a", "no space left on device"), ("b", "")} == set(_refreshed(lab))


@pytest.mark.parametrize(
    ("state", "cause"), [("paused", "it is paused"), ("exited", "it is not running")]
)
async def test_node_that_is_down_is_reported_if_its_cluster_uses_the_image(
    lab: Lab, state: str, cause: str
) -> None:
    lab.docker.build(APP, "v2")
    down = replace(node("a"), is_running=False, state=state)
    elsewhere = replace(node("x", "other"), is_running=False, state=state)
    lab.nodes.images = {down: {APP: OLD}, node("b"): {APP: OLD}, elsewhere: {APP: OLD}}

    await lab.pull()
    await until(lambda: len(_refreshed(lab)) == 2)

    assert [("b", ""), ("a", cause)] == _refreshed(lab)


async def test_node_that_hangs_is_reported_and_the_others_get_the_next_builds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "LATE_SECONDS", 0.3)
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.hung = {"a": (wakes := threading.Event())}

    for content in ("v2", "v3", "v4"):
        lab.docker.build(APP, content)
        await lab.pull()
        await until(lambda: _refreshed(lab)[-1:] == [("a", "not finished after 0 s")])
        lab.events.clear()
    wakes.set()
    await until(lambda: ("a", "") in _refreshed(lab))

    assert [pulled for pulled in lab.nodes.pulled if pulled[0] == "b"] == [("b", APP)] * 3


async def test_node_that_hangs_delays_no_other_node_however_many_images_change(lone: Lone) -> None:
    """review 11: it took all 32 threads, and was queried once for each image."""
    wakes = threading.Event()
    queried: list[str] = []

    def hang(name: str) -> None:
        queried.append(name)
        if name == "hung":
            wakes.wait(20)
            raise ClusterRefused("hung did not answer when its mirrors were read")

    lone.nodes.before_endpoints = hang
    images = [Image("app", f"v{number}") for number in range(64)]
    old = {f"{NAME}/{image}": OLD for image in images}
    lone.nodes.images = {node("hung"): old, node("healthy"): old}

    for image in images:
        lone.refresher.changed(image, "sha256:new")
    await until(lambda: len(_refreshed(lone)) == len(images))
    before = _refreshed(lone)
    wakes.set()
    await until(lambda: len(_refreshed(lone)) == 2 * len(images))

    assert before == [("healthy", "")] * len(images)
    assert set(_refreshed(lone)[len(images) :]) == {
        ("hung", "did not answer when its mirrors were read")
    }
    assert max(map(queried.count, ("hung", "healthy"))) <= 4


async def test_tag_is_forgotten_when_its_rollout_is_over(lone: Lone) -> None:
    """review E: every tag that ever changed was kept."""
    lone.nodes.images = {node("a"): {APP: OLD}}
    lone.refresher.changed(IMAGE, "sha256:v2")
    await until(lambda: _refreshed(lone))
    await asyncio.sleep(0.1)
    gc.collect()

    assert len(lone.refresher._tags) == 0


async def test_internal_error_in_a_node_is_a_failure_of_that_node(
    lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """review 10: `crictl` that prints half a line ended the refresh of the node silently."""
    monkeypatch.setattr(node_refresh, "RECHECK_PAUSES_SECONDS", (0.05,) * 100)
    lone.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lone.nodes.garbled.add("a")

    results = await lone.refresher.refresh(IMAGE, "sha256:v2")
    await asyncio.sleep(0.2)
    lone.nodes.garbled.clear()
    await until(lambda: ("a", APP) in lone.nodes.pulled)

    cause = "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    assert {r.node: (state, r.cause) for r, state in results} == {
        "a": (RefreshState.FAILED, f"internal error ({cause})"),
        "b": (RefreshState.CURRENT, ""),
    }
    assert [Notice(f"internal error in images of a ({cause})")] == [
        event for event in lone.events if isinstance(event, Notice)
    ]


async def test_node_that_hangs_does_not_delay_the_next_build_on_other_nodes(lab: Lab) -> None:
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.hung = {"a": (wakes := threading.Event())}

    for content in ("v2", "v3"):
        lab.docker.build(APP, content)
        await lab.pull()
        await until(lambda: _refreshed(lab) == [("b", "")])
        lab.events.clear()
    wakes.set()
    await until(lambda: _refreshed(lab) == [("a", "")] * 2)


@pytest.mark.parametrize(
    "digest",
    [
        pytest.param("", id="a pod is being created"),
        pytest.param("sha256:old", id="it has started between the two queries"),
    ],
)
async def test_node_that_pulls_the_previous_image_late_pulls_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    """It has no copy at first, and then the old image, which a pod had begun to pull."""
    monkeypatch.setattr(node_refresh, "RECHECK_PAUSES_SECONDS", (0.05,) * 100)
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {}}
    lab.nodes.pods = [replace(waiting("a", APP), waiting_because="", digest=digest)]

    await lab.pull()
    await asyncio.sleep(0.3)
    before = list(lab.nodes.pulled)
    lab.nodes.images = {node("a"): {APP: OLD}}
    await until(lambda: _refreshed(lab))

    assert (before, lab.nodes.pulled) == ([], [("a", APP)])


@pytest.mark.parametrize("trouble", ["silent", "full"])
async def test_failing_node_is_reported_once_and_pulls_when_it_recovers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(node_refresh, "RECHECK_PAUSES_SECONDS", (0.05,) * 100)
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}}
    if trouble == "silent":
        lab.nodes.silent.add("a")
    else:
        lab.nodes.broken["a"] = "no space left on device"

    await lab.pull()
    await until(lambda: _refreshed(lab))
    await asyncio.sleep(0.3)
    reported = _refreshed(lab)
    lab.nodes.silent.clear()
    lab.nodes.broken.clear()
    await until(lambda: len(_refreshed(lab)) > 1)

    assert [bool(cause) for _, cause in reported] == [True]
    assert _refreshed(lab) == [*reported, ("a", "")]
    # Each NodeRefreshing opens a progress bar, which the next NodeRefreshed closes.
    assert sum(isinstance(event, NodeRefreshing) for event in lab.events) <= 1


async def test_workloads_on_a_node_that_recovers_while_another_is_slow_are_restarted(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "RECHECK_PAUSES_SECONDS", (0.05,) * 100)
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    lab.docker.build(APP, "v2")
    lab.nodes.silent.add("a")
    lab.nodes.hung = {"b": (wakes := threading.Event())}
    lab.nodes.pods = [
        ContainerUse(Workload("shop", "Deployment", "app"), "app-1", "a", APP, "sha256:x", "")
    ]
    async with lab.serving():
        lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
        await lab.pull()
        await until(lambda: _refreshed(lab))
        lab.nodes.silent.clear()
        await until(lambda: ("a", APP) in lab.nodes.pulled)
        wakes.set()
        await until(lambda: lab.nodes.kubectl_calls)

    assert lab.nodes.kubectl_calls[0][1][:2] == ("rollout", "restart")


async def test_refresh_for_an_older_digest_does_not_delay_the_newer_one(lone: Lone) -> None:
    """`POST /_autoregistry/refresh` has queried the registry before the newer digest was pushed."""
    lone.nodes.images = {node("a"): {APP: OLD}}
    lone.nodes.hung = {"a": (wakes := threading.Event())}
    lone.refresher.changed(IMAGE, "sha256:v2")
    await until(lambda: any(isinstance(event, NodeRefreshing) for event in lone.events))
    lone.refresher.changed(IMAGE, "sha256:v3")
    await asyncio.sleep(0.3)  # its turn comes after the pull of v2
    requested = asyncio.create_task(lone.refresher.refresh(IMAGE, "sha256:old"))
    await asyncio.sleep(0.1)
    wakes.set()
    await requested
    await until(lambda: len(lone.nodes.pulled) == 2)

    assert lone.nodes.pulled == [("a", APP)] * 2


async def test_refresh_continues_with_a_digest_that_becomes_known_meanwhile(lone: Lone) -> None:
    """Otherwise a command would take the nodes for refreshed that are still to pull the newer one."""
    lone.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lone.nodes.hung = {"a": (wakes := threading.Event())}
    requested = asyncio.create_task(lone.refresher.refresh(IMAGE, "sha256:v2"))
    await until(lambda: lone.nodes.pulled == [("b", APP)])
    lone.refresher.changed(IMAGE, "sha256:v3")
    wakes.set()

    results = {report.node: (report.digest, state) for report, state in await requested}

    assert results == dict.fromkeys("ab", ("sha256:v3", RefreshState.CURRENT))


async def test_refresh_returns_the_state_of_each_node_that_needed_it(
    lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "LATE_SECONDS", 0.3)
    stopped = replace(node("stopped"), is_running=False, state="exited")
    names = ("old", "full", "slow")
    lone.nodes.images = {node(name): {APP: OLD} for name in names} | {stopped: {APP: OLD}}
    lone.nodes.images |= {node("current"): {APP: frozenset({"sha256:v2"})}}
    lone.nodes.images |= {node("elsewhere", "other"): {APP: OLD}}
    lone.nodes.broken = {"full": "no space left on device"}
    lone.nodes.hung = {"slow": (wakes := threading.Event())}

    results = await lone.refresher.refresh(IMAGE, "sha256:v2", cluster="dev")
    wakes.set()

    assert {report.node: (state, report.cause) for report, state in results} == {
        "old": (RefreshState.CURRENT, ""),
        "full": (RefreshState.FAILED, "no space left on device"),
        "slow": (RefreshState.PENDING, "not finished after 0 s"),
        "stopped": (RefreshState.UNAVAILABLE, "it is not running"),
    }


async def test_rechecks_for_an_older_digest_end_at_the_next_build(
    lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "RECHECK_PAUSES_SECONDS", (0.3,) * 100)
    lone.nodes.images = {node("a"): {APP: OLD}}
    lone.nodes.broken["a"] = "no space left on device"
    await lone.refresher.roll_out(IMAGE, "sha256:v2", node="a")
    lone.nodes.broken.clear()
    lone.refresher.changed(IMAGE, "sha256:v3")
    await asyncio.sleep(1)

    reports = [(e.digest, e.cause) for e in lone.events if isinstance(e, NodeRefreshed)]
    assert reports == [("sha256:v2", "no space left on device"), ("sha256:v3", "")]


async def test_nodes_are_listed_again_if_docker_is_busy(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "NODE_LIST_PAUSES_SECONDS", (0.01,) * 3)
    lab.nodes.images = {node("a"): {APP: OLD}}
    lab.nodes.failures = 2
    lab.docker.build(APP, "v2")
    await lab.pull()
    await until(lambda: _refreshed(lab) == [("a", "")])
    lab.nodes.failures = 1000
    lab.docker.build(APP, "v3")
    await lab.pull()
    sentence = "Docker did not list the nodes. Run: autoregistry refresh app:dev"

    await until(lambda: Notice(sentence) in lab.events)


async def test_node_whose_mirrors_cannot_be_read_is_reported(lab: Lab) -> None:
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.mute = {"a"}

    await lab.pull()
    await until(lambda: len(_refreshed(lab)) == 2)

    assert {("a", "did not answer when its mirrors were read"), ("b", "")} == set(_refreshed(lab))


async def test_node_that_starts_pulls_what_has_changed_in_the_meantime(lab: Lab) -> None:
    changed, same, unknown = (f"{NAME}/{name}:dev" for name in ("changed", "same", "unknown"))
    new, current = FakeImage("v2"), frozenset({FakeImage("v1").digest})
    lab.registry.put("changed", "dev", MANIFEST_TYPE, new.manifest)
    lab.registry.put("same", "dev", MANIFEST_TYPE, FakeImage("v1").manifest)
    held = {changed: OLD, same: current, unknown: OLD, "docker.io/library/busybox:latest": OLD}
    lab.nodes.images = {node("a"): held, node("b"): {changed: OLD}}

    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"}
    lab.docker.events.put(ContainerEvent("start", "a", labels))
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", changed)]


async def test_nodes_are_refreshed_after_a_manual_push(lab: Lab) -> None:
    lab.nodes.images = {node("a"): {APP: OLD}}

    await lab.client.put(
        "/v2/app/manifests/dev",
        content=FakeImage("theirs").manifest,
        headers={"Content-Type": MANIFEST_TYPE, "User-Agent": "crane/0.22"},
    )
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", APP)]


async def test_nodes_are_refreshed_after_a_build(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.nodes.images = {node("a"): {APP: OLD}}

    lab.docker.build(APP, "v2", report=True)
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", APP)]
    assert lab.registry.uploads_of("dev") == 1


async def test_workloads_with_an_old_copy_are_restarted_if_that_is_enabled(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    built = lab.docker.build(APP, "v2")
    workload = Workload("shop", "Deployment", "app")
    lab.nodes.pods = [ContainerUse(workload, "app-1", "a", APP, "sha256:old", "IfNotPresent")]
    async with lab.serving():
        lab.nodes.images = {node("a"): {APP: frozenset({built.digest})}}
        await lab.pull()
        await until(lambda: lab.nodes.kubectl_calls)

    words = ("rollout", "restart", "--namespace", "shop", "deployment/app")
    assert [("dev", words, "")] == lab.nodes.kubectl_calls
    assert [WorkloadRestarted("dev", "deployment/app in shop", Image("app", "dev"))] == [
        e for e in lab.events if isinstance(e, WorkloadRestarted)
    ]


async def test_workloads_on_a_late_node_are_restarted_after_its_pull(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "LATE_SECONDS", 0.3)
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    lab.docker.build(APP, "v2")
    lab.nodes.hung = {"a": (wakes := threading.Event())}
    lab.nodes.pods = [
        ContainerUse(Workload("shop", "Deployment", "app"), "app-1", "a", APP, "sha256:x", "")
    ]
    async with lab.serving():
        lab.nodes.images = {node("a"): {APP: OLD}}
        await lab.pull()
        await until(lambda: _refreshed(lab) == [("a", "not finished after 0 s")])
        await asyncio.sleep(0.2)
        before = list(lab.nodes.kubectl_calls)
        wakes.set()
        await until(lambda: lab.nodes.kubectl_calls)

    assert before == []
    assert lab.nodes.kubectl_calls[0][1][:2] == ("rollout", "restart")


async def test_workloads_are_restarted_again_only_if_an_earlier_pull_put_the_old_image_back(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "RECHECK_PAUSES_SECONDS", (0.05,) * 100)
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    built = lab.docker.build(APP, "v2")
    starting = replace(waiting("a", APP), waiting_because="")
    lab.nodes.pods = [starting, replace(starting, digest="sha256:x")]
    async with lab.serving():
        lab.nodes.images = {node("a"): {APP: frozenset({built.digest})}}
        await lab.pull()
        await until(lambda: lab.nodes.kubectl_calls)
        await asyncio.sleep(0.3)
        before = len(lab.nodes.kubectl_calls)
        lab.nodes.images = {node("a"): {APP: OLD}}
        await until(lambda: len(lab.nodes.kubectl_calls) > 1)

    assert before == 1
    assert lab.nodes.pulled[0] == ("a", APP)


async def test_requested_refresh_restarts_nothing(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_refresh, "LATE_SECONDS", 0.3)
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True, refresh=False)
    lab.nodes.hung = {"a": (wakes := threading.Event())}
    lab.nodes.pods = [replace(waiting("a", APP), waiting_because="", digest="sha256:x")]
    async with lab.serving():
        lab.docker.build(APP, "v2")
        await lab.pull()
        lab.nodes.images = {node("a"): {APP: OLD}}
        await lab.client.post(api_paths.REFRESH, json={"image": "app:dev"})
        wakes.set()
        await until(lambda: ("a", "") in _refreshed(lab))
        await asyncio.sleep(0.2)

    assert lab.nodes.kubectl_calls == []
