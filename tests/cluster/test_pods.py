"""The images in kubectl's listings, and the workloads that a restart concerns."""

from __future__ import annotations

from typing import Any

import pytest

from autoregistry.cluster.pods import (
    UNKNOWN,
    ContainerUse,
    Workload,
    outdated_workloads,
    parse_container_uses,
)

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


def _object(kind: str, name: str, owner: tuple[str, str] | None = None) -> dict[str, Any]:
    owners = _owner(*owner) if owner else []
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "ownerReferences": owners},
    }


def test_a_container_has_its_workload_digest_and_pull_policy() -> None:
    listing = {
        "items": [
            _pod("api-1", ("ReplicaSet", "api-7")),
            _object("ReplicaSet", "api-7", ("Deployment", "api")),
        ]
    }

    assert [
        ContainerUse(
            Workload("shop", "Deployment", "api"), "api-1", "node-0", IMAGE, OLD, "IfNotPresent"
        )
    ] == parse_container_uses(listing)


def test_a_container_that_waits_for_its_image_has_the_reason() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    uses = parse_container_uses({"items": [_pod("api-1", digest="", state=waiting)]})

    assert [(use.waiting_because, use.digest) for use in uses] == [("ImagePullBackOff", "")]


def test_reasons_that_do_not_concern_the_image_are_ignored() -> None:
    uses = parse_container_uses(
        {"items": [_pod("api-1", state={"waiting": {"reason": "CrashLoopBackOff"}})]}
    )

    assert [use.waiting_because for use in uses] == [""]


def test_init_containers_are_included_and_terminating_pods_are_not() -> None:
    with_init, terminating = _pod("api-1", digest=NEW), _pod("api-2")
    with_init["spec"]["initContainers"] = [{"name": "init", "image": IMAGE}]
    with_init["status"]["initContainerStatuses"] = [{"name": "init", "imageID": f"x@{OLD}"}]
    terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert [use.digest for use in parse_container_uses({"items": [with_init, terminating]})] == [
        OLD,
        NEW,
    ]


def test_exactly_the_workloads_with_another_digest_are_outdated() -> None:
    uses = parse_container_uses(
        {
            "items": [
                _pod("api-1", ("ReplicaSet", "api-7")),
                _pod("api-2", ("ReplicaSet", "api-7")),
                _object("ReplicaSet", "api-7", ("Deployment", "api")),
                _pod("fresh-1", ("StatefulSet", "fresh"), NEW),
                _pod("db-0", ("StatefulSet", "db")),
                _pod("log-x", ("DaemonSet", "log")),
                _pod("waits", ("StatefulSet", "waits"), ""),
                _pod("night-1-x", ("Job", "night-1")),
                _object("Job", "night-1", ("CronJob", "night")),
                _pod("once-x", ("Job", "once")),
                _pod("alone"),
            ]
        }
    )

    old = outdated_workloads(uses, {"node-0": {NEW}})

    kinds = [(w.name, w.is_restartable, w.runs_again) for w in old]
    assert kinds == [
        ("night", False, True),
        ("log", True, False),
        ("api", True, False),
        ("once", False, True),
        ("alone", False, False),
        ("db", True, False),
    ]


def test_pods_on_other_nodes_and_in_other_namespaces_are_not_outdated() -> None:
    uses = parse_container_uses({"items": [_pod("alone")]})

    assert outdated_workloads(uses, {"node-1": {NEW}, "node-0": set()}) == []
    assert outdated_workloads(uses, {"node-0": {NEW}}, namespace="default") == []


MODEL = "localhost:5000/model:dev"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({}, (UNKNOWN, ""), id="the container runs"),
        pytest.param(
            {"imageID": "", "state": {"waiting": {"reason": "ErrImagePull"}}},
            ("", "ErrImagePull"),
            id="the container waits for it",
        ),
    ],
)
def test_images_mounted_as_volumes_are_used(
    status: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Review E: their pods were not woken, not restarted, and not shown by `why`."""
    pod = _pod("api-1", **status)
    volume = {"name": "model", "image": {"reference": MODEL, "pullPolicy": "Always"}}
    pod["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}, volume]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp"}, {"name": "model"}]

    _, mounted = parse_container_uses({"items": [pod]})
    assert (mounted.reference, mounted.pod, mounted.node) == (MODEL, "api-1", "node-0")
    assert mounted.pull_policy == "Always"
    assert (mounted.digest, mounted.waiting_because) == expected
