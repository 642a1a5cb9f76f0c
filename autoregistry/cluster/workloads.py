"""Restarting what runs an old copy, telling pods what they wait for: what is done to a cluster's objects."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.cluster.pods import ContainerUse, Restarts, Workload, restarts
from autoregistry.errors import AutoregistryError

REPORTER = "autoregistry"


def outdated(
    nodes: Nodes,
    cluster: str,
    members: Iterable[Node],
    references: frozenset[str],
    namespace: str = "",
) -> Restarts:
    """What runs another digest of these references than its node holds now, once refreshed; of these nodes."""
    old: list[ContainerUse] = []
    uses = nodes.uses(cluster)
    for node in members:
        mine = [use for use in uses if use.node == node.name and use.reference in references]
        if mine:
            with suppress(AutoregistryError):  # it is slow, or going down
                held = nodes.held(node)
                current = {digest for r in references for digest in held.get(r, ())}
                old += [use for use in mine if current and use.digest not in current]
    return restarts(old, references, frozenset(), namespace)


def restart(nodes: Nodes, cluster: str, workload: Workload) -> None:
    """`kubectl rollout restart`. Raises ClusterRefused."""
    what = f"{workload.kind.lower()}/{workload.name}"
    nodes.kubectl(cluster, "rollout", "restart", "--namespace", workload.namespace, what)


def restart_outdated(
    nodes: Nodes, registry: str, references: frozenset[str], without: set[str]
) -> list[tuple[str, Workload]]:
    """Restart what runs an old copy on attached nodes, but for these; the clusters, and what was restarted."""
    done = []
    attached = [node for node in nodes.attached(registry) if node.name not in without]
    for cluster in sorted({node.cluster for node in attached}):
        members = [node for node in attached if node.cluster == cluster]
        with suppress(AutoregistryError):  # its server is away: there is nothing to restart
            for workload in outdated(nodes, cluster, members, references).restart:
                with suppress(
                    AutoregistryError
                ):  # it is gone: the others are restarted all the same
                    restart(nodes, cluster, workload)
                    done.append((cluster, workload))
    return done


def wake(nodes: Nodes, cluster: str, waiting: Iterable[ContainerUse], digest: str) -> None:
    """Have the kubelet look at pods whose image has come. Raises ClusterRefused.

    By itself it does every 10 to 15 s (kubernetes pkg/kubelet/pod_workers.go, backOffPeriod); a pod that has changed
    it looks at at once.
    """
    by_namespace: dict[str, set[str]] = {}
    for use in waiting:
        by_namespace.setdefault(use.workload.namespace, set()).add(use.pod)
    for namespace, pods in sorted(by_namespace.items()):
        words = ("annotate", "pods", *sorted(pods), "--namespace", namespace, "--overwrite")
        nodes.kubectl(cluster, *words, f"{REPORTER}/pulled={digest}")


def tell(nodes: Nodes, cluster: str, use: ContainerUse, reason: str, message: str) -> None:
    """A Kubernetes Event on a pod: `kubectl describe pod` shows it. Raises ClusterRefused."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    namespace = use.workload.namespace
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{use.pod}.{secrets.token_hex(8)}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": use.pod,
            "namespace": namespace,
            "uid": use.uid,
        },
        "reason": reason,
        "message": message,
        "type": "Normal" if reason == "Pushing" else "Warning",
        "source": {"component": REPORTER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    nodes.kubectl(cluster, "create", "-f", "-", input=json.dumps(event))
