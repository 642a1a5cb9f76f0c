"""Changes to a cluster's objects: restarting workloads, waking pods, and Kubernetes Events on pods."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Set
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.cluster.pods import UNKNOWN, ContainerUse, Workload, outdated_workloads
from autoregistry.errors import AutoregistryError

REPORTER = "autoregistry"


def by_cluster(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """Return the nodes of each cluster, in the order of the clusters' names."""
    groups = groupby(sorted(nodes), key=lambda node: node.cluster)
    return {cluster: list(members) for cluster, members in groups}


def outdated(
    nodes: Nodes,
    cluster: str,
    members: Iterable[Node],
    references: frozenset[str],
    *,
    namespace: str = "",
    digest: str = "",
    with_unknown: bool = False,
) -> list[Workload]:
    """Return what uses another digest on these nodes than the node has, or than `digest` if it is given.

    Nodes that cannot list their images are left out. `with_unknown` includes pods that mount an image whose digest
    Kubernetes does not report. Raises ClusterRefused.
    """
    uses = [use for use in nodes.container_uses(cluster) if use.reference in references]
    if not with_unknown:
        uses = [use for use in uses if use.digest != UNKNOWN]
    current: dict[str, Set[str]] = {}
    for node in members:
        if digest:
            current[node.name] = {digest}
        elif any(use.node == node.name for use in uses):
            with suppress(AutoregistryError):  # it is slow, or stopping
                images = nodes.images_on(node)
                current[node.name] = {d for r in references for d in images.get(r, ())}
    return outdated_workloads(uses, current, namespace)


def restart(nodes: Nodes, cluster: str, workloads: Iterable[Workload]) -> dict[Workload, str]:
    """`kubectl rollout restart` each workload. Return those that could not be restarted, with the cause."""
    failed = {}
    for workload in workloads:
        where = ("--namespace", workload.namespace, f"{workload.kind.lower()}/{workload.name}")
        try:
            nodes.kubectl(cluster, "rollout", "restart", *where)
        except AutoregistryError as exc:  # it may have been deleted
            failed[workload] = exc.message
    return failed


def restart_outdated(
    nodes: Nodes, cluster: str, members: Iterable[Node], references: frozenset[str]
) -> list[Workload]:
    """Restart what runs an old copy on these nodes. Return what was restarted. Raises ClusterRefused."""
    old = outdated(nodes, cluster, members, references)
    workloads = [workload for workload in old if workload.is_restartable]
    failed = restart(nodes, cluster, workloads)
    return [workload for workload in workloads if workload not in failed]


def wake_pods(nodes: Nodes, cluster: str, waiting: Iterable[ContainerUse], digest: str) -> None:
    """Make the kubelet check pods whose image is there now. Raises ClusterRefused.

    The kubelet checks a pod that waits every 10 to 15 s (kubernetes pkg/kubelet/pod_workers.go, backOffPeriod), and a
    pod that has changed at once.
    """
    by_namespace: dict[str, set[str]] = {}
    for use in waiting:
        by_namespace.setdefault(use.workload.namespace, set()).add(use.pod)
    for namespace, pods in sorted(by_namespace.items()):
        words = ("annotate", "pods", *sorted(pods), "--namespace", namespace, "--overwrite")
        nodes.kubectl(cluster, *words, f"{REPORTER}/pulled={digest}")


def create_pod_event(
    nodes: Nodes, cluster: str, use: ContainerUse, reason: str, message: str
) -> None:
    """Create a Kubernetes Event on a pod, which `kubectl describe pod` shows. Raises ClusterRefused."""
    now, namespace = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", use.workload.namespace
    pod = {"apiVersion": "v1", "kind": "Pod", "name": use.pod, "uid": use.uid}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{use.pod}.{secrets.token_hex(8)}", "namespace": namespace},
        "involvedObject": {**pod, "namespace": namespace},
        "reason": reason,
        "message": message,
        "type": "Normal" if reason == "Pushing" else "Warning",
        "source": {"component": REPORTER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    nodes.kubectl(cluster, "create", "-f", "-", input=json.dumps(event))
