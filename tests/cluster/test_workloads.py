"""What is restarted: what runs another digest than its own node holds, and nothing else."""

from __future__ import annotations

from autoregistry.cluster.pods import ContainerUse, Workload
from autoregistry.cluster.workloads import outdated
from tests.fakes.nodes import FakeNodes, node

APP = "localhost:5000/app:dev"
OLD, NEW = "sha256:old", "sha256:new"


def _runs(on: str, name: str, digest: str) -> ContainerUse:
    return ContainerUse(
        Workload("shop", "Deployment", name), f"{name}-1", on, APP, digest, "IfNotPresent"
    )


def test_a_node_that_kept_the_old_image_does_not_speak_for_the_others() -> None:
    full, well = node("agent-0"), node("server-0")
    nodes = FakeNodes({full: {APP: frozenset({OLD})}, well: {APP: frozenset({NEW})}})
    nodes.pods = [
        _runs("agent-0", "waits", OLD),
        _runs("server-0", "old", OLD),
        _runs("server-0", "new", NEW),
        _runs("server-0", "starts", ""),
    ]

    found = outdated(nodes, "dev", [full, well], frozenset({APP}))

    assert [str(workload) for workload in found.restart] == ["deployment/old in shop"]


def test_a_node_that_does_not_say_what_it_holds_is_left_alone() -> None:
    silent, well = node("agent-0"), node("server-0")
    nodes = FakeNodes({silent: {}, well: {APP: frozenset({NEW})}}, silent={"agent-0"})
    nodes.pods = [_runs("agent-0", "there", OLD), _runs("server-0", "here", OLD)]

    found = outdated(nodes, "dev", [silent, well], frozenset({APP}))

    assert [str(workload) for workload in found.restart] == ["deployment/here in shop"]
