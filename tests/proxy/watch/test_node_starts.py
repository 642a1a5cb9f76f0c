"""Nodes are updated when the proxy connects to Docker, and when they start."""

from __future__ import annotations

from autoregistry.engine.events import ContainerEvent
from autoregistry.events import NodeRefreshed
from tests.fakes.docker import MANIFEST_TYPE, FakeImage
from tests.fakes.nodes import node
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
OLD = frozenset({"sha256:old"})
K3D_NODE = {"app": "k3d", "k3d.cluster": "dev", "k3d.role": "server"}


async def test_attached_nodes_are_updated_when_the_proxy_starts(idle_lab: Lab) -> None:
    idle_lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("v2").manifest)
    idle_lab.nodes.images = {node("a"): {APP: OLD}}

    async with idle_lab.serving():
        await until(lambda: any(isinstance(e, NodeRefreshed) for e in idle_lab.events))

    assert idle_lab.nodes.pulled == [("a", APP)]


async def test_node_that_is_ready_only_later_is_updated(lab: Lab) -> None:
    """Docker reports that its container has started before `crictl` answers in it."""
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("v2").manifest)
    lab.nodes.images = {node("a"): {APP: OLD}}
    lab.nodes.silent = {"a"}
    lab.docker.events.put(ContainerEvent("start", "a", K3D_NODE))
    await until(lab.docker.events.empty)
    lab.nodes.silent = set()

    await until(lambda: any(isinstance(e, NodeRefreshed) for e in lab.events))

    assert lab.nodes.pulled == [("a", APP)]
