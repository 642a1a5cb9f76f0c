"""Events of the proxy, as frozen values. The code that emits them does not know who shows, counts or stores them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from autoregistry.names import Image, Manifest


class Answer(Enum):
    """The result of a request: its word in header, log, journal and page, and the status of a response of our own.

    Status None: the backend's response was forwarded.
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
    TOO_BUSY = ("too-busy", 503)
    MANIFEST_TOO_LARGE = ("manifest-too-large", 413)
    MALFORMED_REQUEST = ("unreadable-request", 400)

    def __init__(self, word: str, status: int | None) -> None:
        self.word = word
        self.status = status


@dataclass(frozen=True, slots=True)
class PullSeen:
    """A client requested a manifest."""

    manifest: Manifest
    client: str


@dataclass(frozen=True, slots=True)
class PullAnswered:
    """A request for a manifest was answered."""

    manifest: Manifest
    client: str
    answer: Answer
    status: int
    sentence: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PushStarted:
    """Docker was asked to push."""

    image: Image
    identity: str
    because: str


@dataclass(frozen=True, slots=True)
class PushProgress:
    """The progress of a push. Bytes are those of the layers that move, as Docker counts them."""

    image: Image
    done_bytes: int
    total_bytes: int
    done_layers: int
    total_layers: int
    seconds: float = 0.0
    """Since the start of the push, for clients that connect in the middle of it."""


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
    """The registry does not have Docker's image. `cause` gives the reason."""

    image: Image
    cause: str


@dataclass(frozen=True, slots=True)
class ManualPushSeen:
    """Another client's push set a tag."""

    image: Image
    client: str
    digest: str


@dataclass(frozen=True, slots=True)
class NodeRefreshing:
    """A node of a cluster starts to pull an image that has changed."""

    cluster: str
    node: str
    image: Image


@dataclass(frozen=True, slots=True)
class NodeRefreshed:
    """A node of a cluster pulled an image that had changed, or failed to."""

    cluster: str
    node: str
    image: Image
    digest: str
    seconds: float
    cause: str = ""
    """The reason of the failure, or an empty string."""


@dataclass(frozen=True, slots=True)
class WorkloadRestarted:
    """A workload that ran an old copy was restarted. `workload` is like `deployment/api in shop`."""

    cluster: str
    workload: str
    image: Image


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to the user, in one sentence."""

    sentence: str


Event = (
    PullSeen
    | PullAnswered
    | PushStarted
    | PushProgress
    | PushFinished
    | PushFailed
    | ManualPushSeen
    | NodeRefreshing
    | NodeRefreshed
    | WorkloadRestarted
    | Notice
)

Emit = Callable[[Event], None]
