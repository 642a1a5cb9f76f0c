"""Nodes follow what the registry has: those that hold an old copy, and those with a pod that waits."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest

from autoregistry.cluster.pods import ContainerUse, Workload
from autoregistry.engine.events import ContainerEvent
from autoregistry.events import Event, NodeRefreshed, NodeRefreshing, Notice, WorkloadRestarted
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.watch.node_refresh import NodeRefresher
from tests.fakes.docker import MANIFEST_TYPE, FakeImage
from tests.fakes.nodes import FakeNodes, node, waiting
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
OLD = frozenset({"sha256:old"})


def _refreshed(lab: Lab) -> list[tuple[str, str]]:
    return [(e.node, e.cause) for e in lab.events if isinstance(e, NodeRefreshed)]


async def test_a_node_with_an_old_copy_pulls_and_the_others_are_left_alone(lab: Lab) -> None:
    built = lab.docker.build(APP, "v2")
    current = frozenset({built.digest})
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: current}, node("c"): {}}

    await lab.pull()
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", APP)]
    assert _refreshed(lab) == [("a", "")]


async def test_a_node_with_a_pod_that_waits_pulls_though_it_holds_nothing(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.nodes.images = {node("a"): {}, node("b"): {}}
    lab.nodes.pods = [waiting("b", APP), waiting("a", f"{NAME}/other:dev")]

    await lab.pull()
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("b", APP)]
    woken = [words for _, words, _ in lab.nodes.kubectl_calls]
    assert [words[:3] for words in woken] == [("annotate", "pods", "app-1")]


async def test_a_node_that_cannot_pull_is_named_and_holds_nobody_up(lab: Lab) -> None:
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
async def test_a_node_that_is_down_is_named_where_others_use_the_image(
    lab: Lab, state: str, cause: str
) -> None:
    lab.docker.build(APP, "v2")
    down = replace(node("a"), is_running=False, state=state)
    elsewhere = replace(node("x", "other"), is_running=False, state=state)
    lab.nodes.images = {down: {APP: OLD}, node("b"): {APP: OLD}, elsewhere: {APP: OLD}}

    await lab.pull()
    await until(lambda: len(_refreshed(lab)) == 2)

    assert [("b", ""), ("a", cause)] == _refreshed(lab)


async def test_a_node_that_hangs_is_named_and_the_others_get_the_next_image_too(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.LATE_SECONDS", 0.3)
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.hung = {"a": (wakes := threading.Event())}

    for content in ("v2", "v3", "v4"):
        lab.docker.build(APP, content)
        await lab.pull()
        await until(lambda: _refreshed(lab)[-1:] == [("a", "it is still at it after 0 s")])
        lab.events.clear()
    wakes.set()
    await until(lambda: ("a", "") in _refreshed(lab))

    assert [pulled for pulled in lab.nodes.pulled if pulled[0] == "b"] == [("b", APP)] * 3


async def test_a_node_that_hangs_keeps_no_other_from_the_next_build(lab: Lab) -> None:
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
        pytest.param("sha256:old", id="it ran between our two questions"),
    ],
)
async def test_a_node_that_pulls_what_was_before_is_made_to_pull_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    """It holds nothing yet, and then the old image, by whoever asked first."""
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.LOOK_SECONDS", (0.05,) * 100)
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
async def test_a_node_in_trouble_is_named_once_and_has_it_when_that_is_over(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.LOOK_SECONDS", (0.05,) * 100)
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}}
    if trouble == "silent":
        lab.nodes.silent.add("a")
    else:
        lab.nodes.broken["a"] = "no space left on device"

    await lab.pull()
    await until(lambda: _refreshed(lab))
    await asyncio.sleep(0.3)
    named = _refreshed(lab)
    lab.nodes.silent.clear()
    lab.nodes.broken.clear()
    await until(lambda: len(_refreshed(lab)) > 1)

    assert [bool(cause) for _, cause in named] == [True]
    assert _refreshed(lab) == [*named, ("a", "")]
    # Whoever shows a bar from one to the other is left with none.
    assert sum(isinstance(event, NodeRefreshing) for event in lab.events) <= 1


async def test_a_node_that_recovers_while_another_is_slow_has_its_pods_restarted(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.LOOK_SECONDS", (0.05,) * 100)
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.silent.add("a")
    lab.nodes.hung = {"b": (wakes := threading.Event())}
    lab.nodes.pods = [
        ContainerUse(Workload("shop", "Deployment", "app"), "app-1", "a", APP, "sha256:x", "")
    ]
    async with lab.serving():
        await lab.pull()
        await until(lambda: _refreshed(lab))
        lab.nodes.silent.clear()
        await until(lambda: ("a", APP) in lab.nodes.pulled)
        wakes.set()
        await until(lambda: lab.nodes.kubectl_calls)

    assert lab.nodes.kubectl_calls[0][1][:2] == ("rollout", "restart")


async def test_a_question_about_an_older_image_does_not_hold_up_the_newer_one() -> None:
    """`POST /_autoregistry/refresh` has asked the registry before the newer one came."""
    nodes, events = FakeNodes({node("a"): {APP: OLD}}), list[Event]()
    refresh = NodeRefresher(nodes, RegistryNames(NAME, ()), events.append)
    nodes.hung = {"a": (wakes := threading.Event())}
    image = Image("app", "dev")
    refresh.changed(image, "sha256:v2")
    await until(lambda: any(isinstance(event, NodeRefreshing) for event in events))
    refresh.changed(image, "sha256:v3")
    await asyncio.sleep(0.3)  # its turn comes after the pull of v2
    asked = asyncio.create_task(refresh.refresh(image, "sha256:old"))
    await asyncio.sleep(0.1)
    wakes.set()
    await asked
    await until(lambda: len(nodes.pulled) == 2)
    refresh.close()

    assert nodes.pulled == [("a", APP)] * 2


async def test_what_a_node_that_came_back_was_to_pull_is_forgotten_at_the_next_build(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.LOOK_SECONDS", (0.3,) * 100)
    nodes, events = FakeNodes({node("a"): {APP: OLD}}), list[Event]()
    refresh = NodeRefresher(nodes, RegistryNames(NAME, ()), events.append)
    nodes.broken["a"] = "no space left on device"
    image = Image("app", "dev")
    await refresh.bring(image, "sha256:v2", "a")
    nodes.broken.clear()
    refresh.changed(image, "sha256:v3")
    await asyncio.sleep(1)
    refresh.close()

    told = [(e.digest, e.cause) for e in events if isinstance(e, NodeRefreshed)]
    assert told == [("sha256:v2", "no space left on device"), ("sha256:v3", "")]


async def test_a_docker_that_is_busy_is_asked_for_the_nodes_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.AGAIN_SECONDS", (0.01,) * 3)
    lab.nodes.images = {node("a"): {APP: OLD}}
    lab.nodes.failures = 2
    lab.docker.build(APP, "v2")
    await lab.pull()
    await until(lambda: _refreshed(lab) == [("a", "")])
    lab.nodes.failures = 1000
    lab.docker.build(APP, "v3")
    await lab.pull()
    told = "Docker does not name the nodes: autoregistry refresh app:dev"

    await until(lambda: Notice(told) in lab.events)


async def test_a_node_that_does_not_say_where_it_pulls_from_is_named(lab: Lab) -> None:
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.mute = {"a"}

    await lab.pull()
    await until(lambda: len(_refreshed(lab)) == 2)

    assert {("a", "did not answer when its mirrors were read"), ("b", "")} == set(_refreshed(lab))


async def test_a_node_that_comes_back_pulls_what_has_changed_meanwhile(lab: Lab) -> None:
    changed, same, unknown = (f"{NAME}/{name}:dev" for name in ("changed", "same", "unknown"))
    lab.docker.build(changed, "v2")
    current = frozenset({lab.docker.build(same, "v1").digest})
    for name in ("changed:dev", "same:dev"):
        await lab.pull(name)
    held = {changed: OLD, same: current, unknown: OLD, "docker.io/library/busybox:latest": OLD}
    lab.nodes.images = {node("a"): held, node("b"): {changed: OLD}}

    labels = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"}
    lab.docker.events.put(ContainerEvent("start", "a", labels))
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", changed)]


async def test_nodes_follow_a_push_by_hand_too(lab: Lab) -> None:
    lab.nodes.images = {node("a"): {APP: OLD}}

    await lab.client.put(
        "/v2/app/manifests/dev",
        content=FakeImage("theirs").manifest,
        headers={"Content-Type": MANIFEST_TYPE, "User-Agent": "crane/0.22"},
    )
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", APP)]


async def test_what_is_built_is_pushed_and_the_nodes_follow(watching_lab: Lab) -> None:
    lab = watching_lab
    lab.nodes.images = {node("a"): {APP: OLD}}

    lab.docker.build(APP, "v2", report=True)
    await until(lambda: _refreshed(lab))

    assert lab.nodes.pulled == [("a", APP)]
    assert lab.registry.uploads_of("dev") == 1


async def test_what_runs_an_old_copy_is_restarted_where_that_was_asked_for(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    built = lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: frozenset({built.digest})}}
    workload = Workload("shop", "Deployment", "app")
    lab.nodes.pods = [ContainerUse(workload, "app-1", "a", APP, "sha256:old", "IfNotPresent")]
    async with lab.serving():
        await lab.pull()
        await until(lambda: lab.nodes.kubectl_calls)

    words = ("rollout", "restart", "--namespace", "shop", "deployment/app")
    assert [("dev", words, "")] == lab.nodes.kubectl_calls
    assert [WorkloadRestarted("dev", "deployment/app in shop", Image("app", "dev"))] == [
        e for e in lab.events if isinstance(e, WorkloadRestarted)
    ]


async def test_what_runs_on_a_node_that_was_late_is_restarted_then(
    idle_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.node_refresh.LATE_SECONDS", 0.1)
    lab = idle_lab
    lab.settings = replace(lab.settings, restart_workloads=True)
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}}
    lab.nodes.hung = {"a": (wakes := threading.Event())}
    lab.nodes.pods = [
        ContainerUse(Workload("shop", "Deployment", "app"), "app-1", "a", APP, "sha256:x", "")
    ]
    async with lab.serving():
        await lab.pull()
        await until(lambda: _refreshed(lab) == [("a", "it is still at it after 0 s")])
        await asyncio.sleep(0.2)
        before = list(lab.nodes.kubectl_calls)
        wakes.set()
        await until(lambda: lab.nodes.kubectl_calls)

    assert before == []
    assert lab.nodes.kubectl_calls[0][1][:2] == ("rollout", "restart")


async def test_pods_that_wait_are_told_how_far_the_push_is_and_why_it_failed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.pod_events.FIRST_SECONDS", 0)
    lab.docker.build(APP, "v1")
    lab.docker.push_seconds, lab.docker.push_error = 0.5, "disk full"
    lab.nodes.images = {node("a"): {}}
    lab.nodes.pods = [waiting("a", APP), waiting("a", f"{NAME}/other:dev")]

    await lab.pull()
    await until(lambda: len(lab.nodes.kubectl_calls) >= 2)

    told = [json.loads(said) for _, words, said in lab.nodes.kubectl_calls if words[0] == "create"]
    assert [event["reason"] for event in told] == ["Pushing", "PushFailed"]
    assert told[0]["message"].startswith("autoregistry: pushing app:dev, ")
    assert told[1]["message"] == "autoregistry: app:dev could not be pushed: disk full"
    assert told[0]["involvedObject"]["name"] == "app-1"
