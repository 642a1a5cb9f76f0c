"""Docker's event stream, read from its own lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import ContainerEvent, ImageEvent, follow_events, parse_event

PULLED = {
    "Type": "image",
    "Action": "pull",
    "Actor": {"ID": "localhost:5000/app:v1", "Attributes": {"name": "localhost:5000/app"}},
    "timeNano": 1,
}
LABELS = {"name": "k3d-dev-agent-1", "app": "k3d", "k3d.cluster": "dev", "k3d.role": "agent"}
STARTED = {"Actor": {"Attributes": LABELS}, "Action": "start", "timeNano": 2}


class Docker:
    """A stream of one event, and the number of connections."""

    host = "unix:///nowhere"

    def __init__(self, line: dict[str, Any]) -> None:
        self.line = line
        self.headers: dict[str, str] = {}
        self.connections = 0

    def stream(self, method: str, path: str, silence: float, **_: Any) -> Docker:
        self.connections += 1
        return self

    def __enter__(self) -> Docker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def iter_lines(self, chunk_size: None) -> Iterator[bytes]:
        yield json.dumps(self.line).encode()


def test_stream_reports_that_docker_listens_before_the_first_event() -> None:
    docker = Docker(STARTED)
    events = follow_events(cast(Daemon, docker), 0)

    assert docker.connections == 0
    assert next(events) is None
    assert docker.connections == 1
    assert next(events) == ContainerEvent("start", "k3d-dev-agent-1", LABELS, 2)


def test_pull_names_the_tag_that_was_pulled() -> None:
    """Its name has no tag, on both image stores: `app` would be taken for `app:latest`."""
    events = follow_events(cast(Daemon, Docker(PULLED)), 0)

    assert list(events) == [None, ImageEvent("localhost:5000/app:v1", "localhost:5000/app:v1", 1)]


def test_line_that_is_no_event_is_ignored() -> None:
    assert parse_event({"Action": "prune"}) is None
    assert parse_event({"Action": "exec_start", "Actor": {"ID": "x"}}) is None


def test_line_of_unexpected_types_does_not_end_the_stream() -> None:
    """The stream would be opened again at the same line, without end."""
    line = {"Action": "tag", "Actor": {"ID": None, "Attributes": "x"}, "timeNano": "soon"}

    assert parse_event(line) == ImageEvent("", "", 0)
