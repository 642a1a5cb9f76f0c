"""One event of every kind."""

from __future__ import annotations

from autoregistry.events import (
    Answer,
    Event,
    ManualPushSeen,
    NodeRefreshed,
    NodeRefreshing,
    Notice,
    PullAnswered,
    PullSeen,
    PushFailed,
    PushFinished,
    PushProgress,
    PushStarted,
    WorkloadRestarted,
)
from autoregistry.names import Digest, Image, Manifest

IMAGE = Image("shop/api", "dev")
EVENTS: list[Event] = [
    PullSeen(Manifest("shop/api", "dev", "localhost:5000"), "containerd/2.3"),
    PullAnswered(
        Manifest("a", Digest("sha256:" + "0" * 64)), "crane", Answer.PUSHED, 200, "why", 1.5
    ),
    PushStarted(IMAGE, "sha256:1", "it differs"),
    PushProgress(IMAGE, 1, 2, 3, 4),
    PushFinished(IMAGE, "sha256:1", "sha256:2", 5, 0.5),
    PushFailed(IMAGE, "disk full"),
    ManualPushSeen(IMAGE, "crane", "sha256:3"),
    NodeRefreshing("dev", "k3d-dev-server-0", IMAGE),
    NodeRefreshed("dev", "k3d-dev-server-0", IMAGE, "sha256:2", 0.2, ""),
    WorkloadRestarted("dev", "deployment/api in shop", IMAGE),
    Notice("Docker's events broke off"),
]
