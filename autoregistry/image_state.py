"""States of images, nodes and pushes. The values are the words in JSON, in commands and on the page (docs/http.md)."""

from __future__ import annotations

from enum import StrEnum

from autoregistry.decision import Verdict


class ImageState(StrEnum):
    """The comparison of Docker, the registry and the nodes for one image."""

    IN_STEP = "in-step"
    NODES_BEHIND = "nodes-behind"
    BEHIND = "behind"
    ONLY_IN_DOCKER = "only-in-docker"
    ONLY_IN_REGISTRY = "only-in-registry"
    PUSHED_MANUALLY = "by-hand"
    UNDECIDED = "undecided"
    STALE = "stale"
    UNREADABLE = "unreadable"
    NOWHERE = "nowhere"
    DOCKER_UNREACHABLE = "docker-unreachable"


class NodeState(StrEnum):
    """The state of one node of a k3d cluster."""

    OK = "ok"
    NO_ANSWER = "does not answer"
    NOT_ATTACHED = "not attached"
    STOPPED = "stopped"


class PushState(StrEnum):
    """The result of a requested push."""

    IN_STEP = "in-step"
    PUSHING = "pushing"
    PUSHED = "pushed"
    FAILED = "failed"
    KEPT = "kept"


class RefreshState(StrEnum):
    """The result of the refresh of one node for one image."""

    PENDING = "pending"
    CURRENT = "current"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    """The node is down. It is refreshed when it starts."""


STATE_OF_VERDICT = {
    Verdict.UP_TO_DATE: ImageState.IN_STEP,
    Verdict.ONLY_IN_REGISTRY: ImageState.ONLY_IN_REGISTRY,
    Verdict.PUSHED_MANUALLY: ImageState.PUSHED_MANUALLY,
    Verdict.DOCKER_UNREACHABLE: ImageState.DOCKER_UNREACHABLE,
    Verdict.KNOWN_STALE: ImageState.STALE,
    Verdict.UNREADABLE: ImageState.UNREADABLE,
    Verdict.MISSING: ImageState.ONLY_IN_DOCKER,
    Verdict.UNDECIDED: ImageState.UNDECIDED,
    Verdict.DIFFERS: ImageState.BEHIND,
    Verdict.REPLACES: ImageState.BEHIND,
    Verdict.INCOMPLETE: ImageState.BEHIND,
}

_PUSH_IT = "autoregistry push {image}"
_BUILD = "docker build -t {registry}/{image} ."
_WAITS = ("the next pull waits until Docker has pushed the image", _PUSH_IT)
_NEXT_PULL = {
    ImageState.IN_STEP: ("the next pull is answered immediately", ""),
    ImageState.NODES_BEHIND: (
        "a node with an older copy does not pull again by itself (imagePullPolicy: IfNotPresent)",
        "autoregistry restart {image}",
    ),
    ImageState.BEHIND: _WAITS,
    ImageState.ONLY_IN_DOCKER: _WAITS,
    ImageState.ONLY_IN_REGISTRY: ("the next pull gets the registry's image", ""),
    ImageState.PUSHED_MANUALLY: (
        "the next pull gets the manually pushed image, until Docker's image changes",
        _PUSH_IT,
    ),
    ImageState.UNDECIDED: (
        "the next pull waits until Docker has pushed its image over the registry's",
        _PUSH_IT,
    ),
    ImageState.STALE: ("the next pull fails with this reason until the push succeeds", _PUSH_IT),
    ImageState.UNREADABLE: (
        "the next pull fails until the registry can read the image or it is pushed again",
        _BUILD,
    ),
    ImageState.NOWHERE: ("the next pull fails with 404 (not found)", _BUILD),
    ImageState.DOCKER_UNREACHABLE: ("the next pull gets what the registry has", "docker info"),
}


def next_pull(state: ImageState, image: str, registry: str) -> tuple[str, str]:
    """Return what the next pull of an image does and the command that helps, empty if none is needed."""
    sentence, command = _NEXT_PULL[state]
    return sentence, command.format(image=image, registry=registry)
