"""The images that pods run or wait for, and the workloads to restart for an image.

Pure: parses the output of `kubectl get ... -o json`. `cluster/nodes.py` runs kubectl.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

# Reasons of a container that waits for its image, or for one that it mounts (kubernetes pkg/kubelet/images/types.go,
# and kubelet's own).
WAITING_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"}
)
UNKNOWN = "unknown"
"""The digest of a mounted image: Kubernetes does not report it without the feature gate ImageVolumeWithDigest."""
_Owners = dict[tuple[str, str, str], Any]


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """The topmost owner of a pod: a Deployment rather than its ReplicaSet; the pod itself if it has no owner."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name} in {self.namespace}"

    @property
    def is_restartable(self) -> bool:
        """True if `kubectl rollout restart` supports it."""
        return self.kind in ("Deployment", "StatefulSet", "DaemonSet")

    @property
    def runs_again(self) -> bool:
        """True if it creates new pods at its next run."""
        return self.kind in ("Job", "CronJob")


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """One container of one pod, and an image that it runs, or mounts as a volume."""

    workload: Workload
    pod: str
    node: str
    reference: str
    """The image in the pod's specification, `localhost:5000/shop/api:dev`."""
    digest: str
    """The digest it uses, `sha256:...`, or UNKNOWN; empty if it does not run yet."""
    pull_policy: str
    waiting_because: str = ""
    uid: str = ""
    """The pod's UID, which Kubernetes Events refer to."""


def parse_container_uses(listing: dict[str, Any]) -> list[ContainerUse]:
    """Return what containers, also init containers, use in the output of `get pods,replicasets,jobs -A -o json`."""
    items = listing.get("items", [])
    owners = {(i["metadata"]["namespace"], i["kind"], i["metadata"]["name"]): i for i in items}
    return [use for item in items if item["kind"] == "Pod" for use in _pod_uses(item, owners)]


def _pod_uses(pod: dict[str, Any], owners: _Owners) -> Iterator[ContainerUse]:
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    if metadata.get("deletionTimestamp"):
        return
    states = {
        state["name"]: state
        for kind in ("initContainerStatuses", "containerStatuses")
        for state in status.get(kind) or []
    }
    mounted = {v["name"]: v["image"] for v in spec.get("volumes") or [] if v.get("image")}
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        state = states.get(container["name"], {})
        digest = str(state.get("imageID", "")).rpartition("@")[2]
        images = [(container["image"], digest, container.get("imagePullPolicy", ""))]
        for mount in container.get("volumeMounts") or []:
            if image := mounted.get(mount["name"]):
                used = UNKNOWN if digest else ""
                images.append((image.get("reference", ""), used, image.get("pullPolicy", "")))
        reason = state.get("state", {}).get("waiting", {}).get("reason", "")
        for reference, used, pull_policy in images:
            yield ContainerUse(
                workload=_workload(pod, owners),
                pod=metadata["name"],
                node=spec.get("nodeName", ""),
                reference=reference,
                digest=used,
                pull_policy=pull_policy,
                waiting_because=reason if reason in WAITING_REASONS else "",
                uid=str(metadata.get("uid", "")),
            )


def _workload(item: dict[str, Any], owners: _Owners) -> Workload:
    namespace = item["metadata"]["namespace"]
    for owner in item["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            key = (namespace, str(owner["kind"]), str(owner["name"]))
            return _workload(owners[key], owners) if key in owners else Workload(*key)
    return Workload(namespace, str(item["kind"]), str(item["metadata"]["name"]))


def outdated_workloads(
    uses: Iterable[ContainerUse], current: Mapping[str, Set[str]], namespace: str = ""
) -> list[Workload]:
    """Return exactly the workloads whose pods use another digest than the current ones of their node, by its name."""
    outdated = {
        use.workload
        for use in uses
        if use.digest
        and use.digest not in (current.get(use.node) or {use.digest})
        and namespace in ("", use.workload.namespace)
    }
    return sorted(outdated)
