"""The images that pods run or wait for, and the workloads to restart for an image.

Pure: parses the output of `kubectl get ... -o json`. `cluster/nodes.py` runs kubectl.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Reasons of a container that waits for its image (kubernetes pkg/kubelet/images/types.go, and kubelet's own).
WAITING_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
RESTARTABLE_KINDS = ("Deployment", "StatefulSet", "DaemonSet")
# These create new pods at their next run.
NEXT_RUN_KINDS = ("Job", "CronJob")


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """The topmost owner of a pod: a Deployment rather than its ReplicaSet; the pod itself if it has no owner."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name} in {self.namespace}"


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """One container of one pod, and the image it uses."""

    workload: Workload
    pod: str
    node: str
    reference: str
    """The image in the pod's specification, `localhost:5000/shop/api:dev`."""
    digest: str
    """The digest it runs, `sha256:...`; empty if it does not run yet."""
    pull_policy: str
    waiting_because: str = ""
    uid: str = ""
    """The pod's UID, which Kubernetes Events refer to."""


def parse_container_uses(listing: dict[str, Any]) -> list[ContainerUse]:
    """Return the containers, with init containers, in the output of `get pods,replicasets,jobs -A -o json`."""
    items = listing.get("items", [])
    owners = {
        (item["metadata"]["namespace"], item["kind"], item["metadata"]["name"]): item
        for item in items
        if item["kind"] != "Pod"
    }
    return [use for item in items if item["kind"] == "Pod" for use in _pod_uses(item, owners)]


def _pod_uses(
    pod: dict[str, Any], owners: dict[tuple[str, str, str], Any]
) -> Iterator[ContainerUse]:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if metadata.get("deletionTimestamp"):
        return
    workload = _workload(pod, owners)
    states = {
        state["name"]: state
        for kind in ("initContainerStatuses", "containerStatuses")
        for state in status.get(kind) or []
    }
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        state = states.get(container["name"], {})
        reason = state.get("state", {}).get("waiting", {}).get("reason", "")
        yield ContainerUse(
            workload=workload,
            pod=metadata["name"],
            node=spec.get("nodeName", ""),
            reference=container["image"],
            digest=str(state.get("imageID", "")).rpartition("@")[2],
            pull_policy=container.get("imagePullPolicy", ""),
            waiting_because=reason if reason in WAITING_REASONS else "",
            uid=str(metadata.get("uid", "")),
        )


def _workload(item: dict[str, Any], owners: dict[tuple[str, str, str], Any]) -> Workload:
    namespace = item["metadata"]["namespace"]
    for owner in item["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            key = (namespace, str(owner["kind"]), str(owner["name"]))
            return _workload(owners[key], owners) if key in owners else Workload(*key)
    return Workload(namespace, str(item["kind"]), str(item["metadata"]["name"]))


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """The workloads of one cluster that run an outdated copy of an image."""

    restart: tuple[Workload, ...]
    next_run: tuple[Workload, ...]
    """Jobs and CronJobs, which get the image at their next run."""
    not_restartable: tuple[Workload, ...]
    """Pods without an owner, and kinds that `kubectl rollout restart` does not support."""


def plan_restarts(
    uses: Iterable[ContainerUse],
    references: frozenset[str],
    current: frozenset[str],
    namespace: str = "",
) -> RestartPlan:
    """Return exactly the workloads whose pods run one of these references with a digest that is not current."""
    outdated = {
        use.workload
        for use in uses
        if use.reference in references
        and use.digest
        and use.digest not in current
        and namespace in ("", use.workload.namespace)
    }
    kinds = {
        kind: tuple(sorted(w for w in outdated if w.kind == kind))
        for kind in {w.kind for w in outdated}
    }
    known_kinds = (*RESTARTABLE_KINDS, *NEXT_RUN_KINDS)
    return RestartPlan(
        restart=tuple(w for kind in RESTARTABLE_KINDS for w in kinds.get(kind, ())),
        next_run=tuple(w for kind in NEXT_RUN_KINDS for w in kinds.get(kind, ())),
        not_restartable=tuple(w for kind in kinds if kind not in known_kinds for w in kinds[kind]),
    )
