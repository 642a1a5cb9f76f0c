"""Nodes follow what the registry has: those that hold an old copy, and those with a pod that waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from autoregistry.events import NodeRefreshed
from tests.fakes.docker import MANIFEST_TYPE, FakeImage
from tests.fakes.nodes import node, waiting
from tests.proxy.conftest import NAME, Lab

APP = f"{NAME}/app:dev"
OLD = frozenset({"sha256:old"})


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


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


async def test_a_node_that_cannot_pull_is_named_and_holds_nobody_up(lab: Lab) -> None:
    lab.docker.build(APP, "v2")
    lab.nodes.images = {node("a"): {APP: OLD}, node("b"): {APP: OLD}}
    lab.nodes.broken = {"a": "no space left on device"}

    answer = await lab.pull()
    await until(lambda: len(_refreshed(lab)) == 2)

    assert answer.status_code == 200
    assert lab.nodes.pulled == [("b", APP)]
    assert {("a", "no space left on device"), ("b", "")} == set(_refreshed(lab))


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
