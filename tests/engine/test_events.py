"""What happens while Docker is not listened to yet is asked for once it is, so that nothing falls between the two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import ImageEvent, container_events, image_events
from autoregistry.proxy.watch.node_starts import node_starts

PULLED = {
    "Type": "image",
    "Action": "pull",
    "Actor": {"ID": "localhost:5000/app:v1", "Attributes": {"name": "localhost:5000/app"}},
    "timeNano": 1,
}
STARTED = {"Actor": {"Attributes": {"name": "k3d-dev-agent-1"}}, "Action": "start", "timeNano": 2}


class Docker:
    """Its nodes, and a stream of events before which one more node comes."""

    host = "unix:///nowhere"

    def __init__(self, line: dict[str, Any] = STARTED) -> None:
        self.line = line
        self.headers: dict[str, str] = {}
        self.nodes = ["k3d-dev-server-0"]

    def request(self, method: str, path: str, **_: Any) -> Docker:
        self.nodes.append("k3d-dev-agent-0")
        return self

    def __enter__(self) -> Docker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def iter_lines(self, chunk_size: None) -> Iterator[bytes]:
        yield json.dumps(self.line).encode()

    def attached(self, name: str) -> list[Node]:
        place = {"cluster": "dev", "network": "k3d-dev", "role": "server", "image": ""}
        return [Node(name=name, is_running=True, **place) for name in self.nodes]


def test_nothing_is_said_before_docker_is_listened_to() -> None:
    docker = Docker()
    events = container_events(cast(Daemon, docker), "app=k3d")

    assert next(events) is None
    assert docker.nodes == ["k3d-dev-server-0", "k3d-dev-agent-0"]
    assert next(events) == {"name": "k3d-dev-agent-1", "action": "start"}


def test_a_node_that_starts_meanwhile_is_not_missed() -> None:
    docker = Docker()
    names = islice(node_starts(cast(Daemon, docker), cast(Nodes, docker), "localhost:5000"), 3)

    assert list(names) == ["k3d-dev-server-0", "k3d-dev-agent-0", "k3d-dev-agent-1"]


def test_a_pull_is_of_the_tag_that_was_pulled() -> None:
    """Its name is without the tag, on both image stores: `app` would be taken for `app:latest`."""
    events = image_events(cast(Daemon, Docker(PULLED)), None)

    assert list(events) == [None, ImageEvent("localhost:5000/app:v1", "localhost:5000/app:v1", 1)]
