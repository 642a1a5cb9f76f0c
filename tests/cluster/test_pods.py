"""What kubectl's lists say about images, and which workloads a restart concerns."""

from __future__ import annotations

from typing import Any

from autoregistry.cluster.pods import ContainerUse, Restarts, Workload, restarts, uses

IMAGE = "localhost:5000/app:dev"
NEW, OLD = "sha256:new", "sha256:old"


def _owner(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": name, "controller": True}]


def _pod(
    name: str, owner: tuple[str, str] | None = None, digest: str = OLD, **more: Any
) -> dict[str, Any]:
    state = {"name": "app", "imageID": f"localhost:5000/app@{digest}" if digest else ""}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "ownerReferences": _owner(*owner) if owner else [],
        },
        "spec": {
            "nodeName": "node-0",
            "containers": [{"name": "app", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}],
        },
        "status": {"containerStatuses": [state | more]},
    }


def _thing(kind: str, name: str, owner: tuple[str, str] | None = None) -> dict[str, Any]:
    owners = _owner(*owner) if owner else []
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": owners},
    }


def test_a_container_is_said_with_its_workload_digest_and_policy() -> None:
    listed = {
        "items": [
            _pod("api-1", ("ReplicaSet", "api-7")),
            _thing("ReplicaSet", "api-7", ("Deployment", "api")),
        ]
    }

    assert [
        ContainerUse(
            Workload("shop", "Deployment", "api"), "api-1", "node-0", IMAGE, OLD, "IfNotPresent"
        )
    ] == uses(listed)


def test_a_container_that_waits_for_its_image_says_why() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    found = uses({"items": [_pod("api-1", digest="", state=waiting)]})

    assert [(use.waiting_because, use.digest) for use in found] == [("ImagePullBackOff", "")]


def test_other_reasons_to_wait_are_not_about_the_image() -> None:
    found = uses({"items": [_pod("api-1", state={"waiting": {"reason": "CrashLoopBackOff"}})]})

    assert [use.waiting_because for use in found] == [""]


def test_init_containers_count_and_pods_that_are_going_do_not() -> None:
    with_init, going = _pod("api-1", digest=NEW), _pod("api-2")
    with_init["spec"]["initContainers"] = [{"name": "init", "image": IMAGE}]
    with_init["status"]["initContainerStatuses"] = [{"name": "init", "imageID": f"x@{OLD}"}]
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert [use.digest for use in uses({"items": [with_init, going]})] == [OLD, NEW]


def test_exactly_what_runs_another_digest_is_restarted() -> None:
    found = uses(
        {
            "items": [
                _pod("api-1", ("ReplicaSet", "api-7")),
                _pod("api-2", ("ReplicaSet", "api-7")),
                _thing("ReplicaSet", "api-7", ("Deployment", "api")),
                _pod("fresh-1", ("StatefulSet", "fresh"), NEW),
                _pod("db-0", ("StatefulSet", "db")),
                _pod("log-x", ("DaemonSet", "log")),
                _pod("waits", ("StatefulSet", "waits"), ""),
                _pod("night-1-x", ("Job", "night-1")),
                _thing("Job", "night-1", ("CronJob", "night")),
                _pod("once-x", ("Job", "once")),
                _pod("alone"),
            ]
        }
    )

    assert Restarts(
        restart=(
            Workload("shop", "Deployment", "api"),
            Workload("shop", "StatefulSet", "db"),
            Workload("shop", "DaemonSet", "log"),
        ),
        next_run=(Workload("shop", "Job", "once"), Workload("shop", "CronJob", "night")),
        bare=(Workload("shop", "Pod", "alone"),),
    ) == restarts(found, frozenset({IMAGE}), frozenset({NEW}))


def test_other_images_and_other_namespaces_are_left_alone() -> None:
    found = uses({"items": [_pod("alone")]})

    nothing = Restarts((), (), ())
    assert nothing == restarts(found, frozenset({"localhost:5000/other:dev"}), frozenset({NEW}))
    assert nothing == restarts(found, frozenset({IMAGE}), frozenset({NEW}), namespace="default")
