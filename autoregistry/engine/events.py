"""Docker's event stream: images that were tagged, and containers that started or were removed."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3

from autoregistry.engine.daemon import Daemon
from autoregistry.engine.streams import json_lines

# `tag` is sent for every build, retag, load and import of a named image, on both stores; `load`, `import` and
# `pull` name the image as well (moby api/swagger.yaml, "SystemEvents").
IMAGE_ACTIONS = ("tag", "load", "import", "pull")
CONTAINER_ACTIONS = ("start", "unpause", "destroy")
# A connection that died silently (a machine that slept, a tunnel) looks like a Docker that has nothing to report.
# After this silence the stream is opened again, from the last event.
EVENT_SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """An image was tagged, loaded, imported or pulled."""

    reference: str
    identity: str
    nanoseconds: int
    """Docker's clock, since the epoch."""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """A container was started, unpaused or removed."""

    action: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    nanoseconds: int = 0


def follow_events(
    daemon: Daemon, since: int, *, silence: float = EVENT_SILENCE_SECONDS
) -> Generator[ImageEvent | ContainerEvent | None, None, None]:
    """Follow the daemon's events since that nanosecond until the connection ends; blocks.

    Yields None once Docker listens: a state that is queried after that misses nothing. Reconnects after `silence`
    seconds, without repeating or losing an event. Docker keeps its last 256 events; older ones are not replayed
    (moby daemon/events/events.go). Raises DockerUnreachable when the daemon goes away, and DockerRefused for a line
    that cannot be read.
    """
    is_listening = False
    filters = {"type": ["image", "container"], "event": [*IMAGE_ACTIONS, *CONTAINER_ACTIONS]}
    while True:
        at = f"{since // 10**9}.{since % 10**9:09d}"
        params = {"filters": json.dumps(filters), "since": at}
        with daemon.stream("GET", "/events", silence, params=params) as response:
            if not is_listening:
                is_listening = True
                yield None
            try:
                for line in json_lines(response):
                    since = max(since, _nanoseconds(line) + 1)
                    if event := parse_event(line):
                        yield event
            except requests.ConnectionError as exc:
                if not isinstance(exc.args[0], urllib3.exceptions.ReadTimeoutError):
                    raise
            else:
                return


def _nanoseconds(line: dict[str, Any]) -> int:
    at = line.get("timeNano")
    return at if isinstance(at, int) else 0


def parse_event(line: dict[str, Any]) -> ImageEvent | ContainerEvent | None:
    """Return one line of the stream as a value, or None if it is neither an image's nor a container's.

    It never raises: the stream would be opened again at the same line, without end.
    """
    actor, action, at = line.get("Actor"), str(line.get("Action")), _nanoseconds(line)
    if not isinstance(actor, dict):
        return None
    attributes = actor.get("Attributes")
    if not isinstance(attributes, dict):
        attributes = {}
    if action in CONTAINER_ACTIONS:
        return ContainerEvent(action, str(attributes.get("name") or ""), attributes, at)
    if action not in IMAGE_ACTIONS:
        return None
    identity = str(actor.get("ID") or "")
    # The name in a pull event has no tag; its Id does (moby daemon/containerd/image_pull.go, distribution/pull.go).
    name = "" if action == "pull" else attributes.get("name")
    return ImageEvent(str(name or identity), identity, at)
