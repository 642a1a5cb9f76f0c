"""In what state an image is, in a word, and what its next pull will do: for whoever shows it."""

from __future__ import annotations

from autoregistry.decision import Verdict

STATES = {
    Verdict.UP_TO_DATE: "in-step",
    Verdict.ONLY_IN_REGISTRY: "only-in-registry",
    Verdict.PUSHED_BY_HAND: "by-hand",
    Verdict.DOCKER_UNREACHABLE: "docker-unreachable",
    Verdict.KNOWN_STALE: "stale",
    Verdict.MISSING: "only-in-docker",
    Verdict.DIFFERS: "behind",
    Verdict.INCOMPLETE: "behind",
}

_NEXT = {
    "in-step": ("the next pull is answered at once", ""),
    "nodes-behind": (
        "a node that holds a copy does not ask (imagePullPolicy: IfNotPresent) until it is made to",
        "autoregistry restart {image}",
    ),
    "behind": ("at the next pull Docker pushes first", "autoregistry push {image}"),
    "only-in-docker": ("at the next pull Docker pushes first", "autoregistry push {image}"),
    "only-in-registry": ("the next pull gets the registry's image", ""),
    "by-hand": (
        "the next pull gets what was pushed by hand, until Docker's image changes",
        "autoregistry push {image}",
    ),
    "stale": (
        "the next pull is refused with this reason until the push works",
        "autoregistry push {image}",
    ),
    "unreadable": (
        "the next pull is refused until the registry can read it, or somebody pushes it again",
        "autoregistry push {image}",
    ),
    "nowhere": ("the next pull is 404", "docker build -t {name}/{image} ."),
    "docker-unreachable": ("the next pull gets what the registry has", "docker info"),
}


def next_pull(state: str, image: str, name: str) -> tuple[str, str]:
    """What the next pull of an image in this state will do, and the command that helps; `name` is the registry's."""
    sentence, command = _NEXT[state]
    return sentence, command.format(image=image, name=name)
