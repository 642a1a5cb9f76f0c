"""Workloads are restarted if they run another digest than their own node has, and only then."""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.cluster.pods import UNKNOWN, ContainerUse, Workload
from autoregistry.cluster.workloads import outdated, restart
from autoregistry.errors import ClusterRefused
from tests.fakes.nodes import FakeNodes, node

APP = "localhost:5000/app:dev"
OLD, NEW = "sha256:old", "sha256:new"


def _use(on_node: str, name: str, digest: str) -> ContainerUse:
    workload = Workload("shop", "Deployment", name)
    return ContainerUse(workload, f"{name}-1", on_node, APP, digest, "IfNotPresent")


def test_pods_are_compared_with_the_copy_of_their_own_node() -> None:
    full, healthy = node("agent-0"), node("server-0")
    nodes = FakeNodes({full: {APP: frozenset({OLD})}, healthy: {APP: frozenset({NEW})}})
    nodes.pods = [
        _use("agent-0", "waits", OLD),
        _use("server-0", "old", OLD),
        _use("server-0", "new", NEW),
        _use("server-0", "starts", ""),
    ]

    old = outdated(nodes, "dev", [full, healthy], frozenset({APP}))

    assert [str(workload) for workload in old] == ["deployment/old in shop"]


def test_pods_are_compared_with_a_digest_if_one_is_given() -> None:
    nodes = FakeNodes({node("server-0"): {APP: frozenset({OLD})}})
    nodes.pods = [_use("server-0", "old", OLD), _use("server-0", "new", NEW)]

    old = outdated(nodes, "dev", [node("server-0")], frozenset({APP}), digest=NEW)

    assert [str(workload) for workload in old] == ["deployment/old in shop"]


def test_a_node_that_cannot_list_its_images_is_left_out() -> None:
    silent, healthy = node("agent-0"), node("server-0")
    nodes = FakeNodes({silent: {}, healthy: {APP: frozenset({NEW})}}, silent={"agent-0"})
    nodes.pods = [_use("agent-0", "on-silent", OLD), _use("server-0", "on-healthy", OLD)]

    old = outdated(nodes, "dev", [silent, healthy], frozenset({APP}))

    assert [str(workload) for workload in old] == ["deployment/on-healthy in shop"]


def test_other_images_are_not_restarted() -> None:
    nodes = FakeNodes({node("server-0"): {APP: frozenset({NEW})}})
    nodes.pods = [_use("server-0", "old", OLD)]

    old = outdated(nodes, "dev", [node("server-0")], frozenset({"localhost:5000/other:dev"}))

    assert old == []


def test_a_mounted_image_without_a_known_digest_is_old_only_for_a_user_who_asks() -> None:
    """Review E. Otherwise each push would restart it, and each node that gets the image late."""
    nodes = FakeNodes({node("server-0"): {APP: frozenset({NEW})}})
    nodes.pods = [_use("server-0", "mounts", UNKNOWN)]
    where = ("dev", [node("server-0")], frozenset({APP}))

    assert outdated(nodes, *where) == []
    assert [w.name for w in outdated(nodes, *where, with_unknown=True)] == ["mounts"]


@dataclass
class OneDeleted(FakeNodes):
    """A cluster in which a deployment has just been deleted."""

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        if "deployment/deleted" in words:
            raise ClusterRefused("kubectl rollout failed in server-0: not found")
        return super().kubectl(cluster, *words, input=input)


def test_a_workload_that_cannot_be_restarted_does_not_keep_the_others_from_it() -> None:
    deleted, other = (Workload("shop", "Deployment", name) for name in ("deleted", "other"))
    nodes = OneDeleted()

    failed = restart(nodes, "dev", [deleted, other])

    assert failed == {deleted: "kubectl rollout failed in server-0: not found"}
    assert [words[-1] for _, words, _ in nodes.kubectl_calls] == ["deployment/other"]
