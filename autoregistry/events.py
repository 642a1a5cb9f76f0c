"""What happened, as frozen values. Who shows them, counts them or keeps them is not known here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from autoregistry.names import Image, Manifest


class Answer(Enum):
    """How a request ended: the word for header, log, journal and page, and the status where the answer is ours.

    Status None: the backend's own answer was forwarded.
    """

    UP_TO_DATE = ("up-to-date", None)
    PUSHED = ("pushed", None)
    PUSHED_MANUALLY = ("pushed-by-hand", None)
    ONLY_IN_REGISTRY = ("only-in-registry", None)
    DOCKER_UNREACHABLE = ("docker-unreachable", None)
    OWN_PUSH = ("own-push", None)
    PUSHING = ("pushing", 408)
    PUSH_FAILED = ("push-failed", 403)
    REDIRECTED = ("redirected", 307)
    NOT_A_REGISTRY_REQUEST = ("not-a-registry-request", 400)
    NOT_MIRRORED = ("not-mirrored", 404)
    FOREIGN_HOST = ("foreign-host", 421)
    BACKEND_UNREACHABLE = ("backend-unreachable", 502)
    CLIENT_STALLED = ("client-stalled", 408)
    NO_REQUEST = ("no-request", 408)
    TOO_MANY_CONNECTIONS = ("too-many-connections", 503)
    UNREADABLE = ("unreadable-request", 400)

    def __init__(self, word: str, status: int | None) -> None:
        self.word = word
        self.status = status


@dataclass(frozen=True, slots=True)
class PullSeen:
    """A manifest was asked for."""

    manifest: Manifest
    client: str


@dataclass(frozen=True, slots=True)
class PullAnswered:
    """... and this was the answer."""

    manifest: Manifest
    client: str
    answer: Answer
    status: int
    sentence: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PushStarted:
    """Docker was told to push."""

    image: Image
    identity: str
    because: str


@dataclass(frozen=True, slots=True)
class PushProgress:
    """How far it is. Bytes are of the layers that move, as Docker counts them."""

    image: Image
    done_bytes: int
    total_bytes: int
    done_layers: int
    total_layers: int
    seconds: float = 0.0
    """Since Docker was told to push: who looks only now shall see it as well."""


@dataclass(frozen=True, slots=True)
class PushFinished:
    """The registry has what Docker has."""

    image: Image
    identity: str
    digest: str
    pushed_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PushFailed:
    """It has not, and why."""

    image: Image
    cause: str


@dataclass(frozen=True, slots=True)
class HandPushSeen:
    """Somebody else's push set a tag."""

    image: Image
    client: str
    digest: str


@dataclass(frozen=True, slots=True)
class NodeRefreshing:
    """A node of a cluster is made to pull what has changed."""

    cluster: str
    node: str
    image: Image


@dataclass(frozen=True, slots=True)
class NodeRefreshed:
    """A node of a cluster pulled what had changed; or could not, and why."""

    cluster: str
    node: str
    image: Image
    digest: str
    seconds: float
    cause: str = ""
    """Why it could not; empty where it did."""


@dataclass(frozen=True, slots=True)
class WorkloadRestarted:
    """A workload that ran an old copy was restarted, `deployment/api in shop`."""

    cluster: str
    workload: str
    image: Image


@dataclass(frozen=True, slots=True)
class Notice:
    """Something people should know, in one sentence."""

    sentence: str


Event = (
    PullSeen
    | PullAnswered
    | PushStarted
    | PushProgress
    | PushFinished
    | PushFailed
    | HandPushSeen
    | NodeRefreshing
    | NodeRefreshed
    | WorkloadRestarted
    | Notice
)

Emit = Callable[[Event], None]
