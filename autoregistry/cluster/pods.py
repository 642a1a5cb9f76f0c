"""Which pods run which image, wait for it, or must be restarted to get it.

Pure: what `kubectl get ... -o json` printed in, values out. Who runs kubectl is `cluster/nodes.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Reasons of a container that waits for its image (kubernetes pkg/kubelet/images/types.go, and kubelet's own).
WAITING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
RESTARTABLE = ("Deployment", "StatefulSet", "DaemonSet")
# These make new pods by themselves, at their next run.
NEXT_RUN = ("Job", "CronJob")


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """What a pod belongs to, at the top: a Deployment rather than its ReplicaSet; the pod itself if to nothing."""

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
    """As the pod's specification says it, `localhost:5000/shop/api:dev`."""
    digest: str
    """What it runs, `sha256:...`; empty where it does not run yet."""
    pull_policy: str
    waiting_because: str = ""
    uid: str = ""
    """The pod's, by which an Event of Kubernetes refers to it."""


def uses(listed: dict[str, Any]) -> list[ContainerUse]:
    """The containers, init containers included, of what `get pods,replicasets,jobs -A -o json` lists."""
    items = listed.get("items", [])
    owners = {
        (item["metadata"]["namespace"], item["kind"], item["metadata"]["name"]): item
        for item in items
        if item["kind"] != "Pod"
    }
    return [use for item in items if item["kind"] == "Pod" for use in _of_pod(item, owners)]


def _of_pod(pod: dict[str, Any], owners: dict[tuple[str, str, str], Any]) -> Iterator[ContainerUse]:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if metadata.get("deletionTimestamp"):
        return
    workload = _top(pod, owners)
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
            waiting_because=reason if reason in WAITING else "",
            uid=str(metadata.get("uid", "")),
        )


def _top(item: dict[str, Any], owners: dict[tuple[str, str, str], Any]) -> Workload:
    namespace = item["metadata"]["namespace"]
    for owner in item["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            key = (namespace, str(owner["kind"]), str(owner["name"]))
            return _top(owners[key], owners) if key in owners else Workload(*key)
    return Workload(namespace, str(item["kind"]), str(item["metadata"]["name"]))


@dataclass(frozen=True, slots=True)
class Restarts:
    """What a restart for an image means in one cluster."""

    restart: tuple[Workload, ...]
    next_run: tuple[Workload, ...]
    """Jobs and CronJobs: they get the image when they run the next time."""
    bare: tuple[Workload, ...]
    """Pods that belong to nothing, and kinds that `kubectl rollout restart` does not know."""


def restarts(
    found: Iterable[ContainerUse],
    references: frozenset[str],
    current: frozenset[str],
    namespace: str = "",
) -> Restarts:
    """Exactly the workloads whose pods run one of these references with a digest that is not current."""
    outdated = {
        use.workload
        for use in found
        if use.reference in references
        and use.digest
        and use.digest not in current
        and namespace in ("", use.workload.namespace)
    }
    kinds = {
        kind: tuple(sorted(w for w in outdated if w.kind == kind))
        for kind in {w.kind for w in outdated}
    }
    return Restarts(
        restart=tuple(w for kind in RESTARTABLE for w in kinds.get(kind, ())),
        next_run=tuple(w for kind in NEXT_RUN for w in kinds.get(kind, ())),
        bare=tuple(
            w for kind in kinds if kind not in (*RESTARTABLE, *NEXT_RUN) for w in kinds[kind]
        ),
    )
