"""What Docker reports about its images, as it happens."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass

from autoregistry.engine.connect import Daemon, translated

# `tag` is sent for every build, retag, load and import of a named image, on both stores; `load`, `import` and
# `pull` name the image as well (moby api/swagger.yaml, "SystemEvents").
ACTIONS = ("tag", "load", "import", "pull")


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """Docker has something under this name that it may not have had before."""

    reference: str
    identity: str
    nanoseconds: int
    """Docker's clock, since the epoch."""


def image_events(
    daemon: Daemon, since_nanoseconds: int | None
) -> Generator[ImageEvent | None, None, None]:
    """Follow the daemon's image events until the connection ends; blocks. None comes first, once it is there.

    Docker keeps its last 256 events; older ones than those are not repeated (moby daemon/events/events.go).
    Raises DockerUnreachable when the daemon goes away.
    """
    params = {"filters": json.dumps({"type": ["image"], "event": list(ACTIONS)})}
    if since_nanoseconds is not None:
        params["since"] = f"{since_nanoseconds // 10**9}.{since_nanoseconds % 10**9:09d}"
    answer = daemon.request("GET", "/events", params=params, timeout=None, stream=True)
    with translated(daemon.host), answer:
        yield None
        for line in answer.iter_lines(chunk_size=None):
            if line.strip() and (event := _read(json.loads(line))):
                yield event


def container_starts(
    daemon: Daemon, *labels: str, actions: tuple[str, ...] = ("start",)
) -> Generator[dict[str, str], None, None]:
    """The labels, and `name`, of each container with these labels that starts from now on; blocks.

    Raises DockerUnreachable when the daemon goes away.
    """
    filters = {"type": ["container"], "event": list(actions), "label": list(labels)}
    params = {"filters": json.dumps(filters)}
    answer = daemon.request("GET", "/events", params=params, timeout=None, stream=True)
    with translated(daemon.host), answer:
        for line in answer.iter_lines(chunk_size=None):
            if line.strip():
                yield dict(json.loads(line)["Actor"]["Attributes"])


def _read(line: dict[str, object]) -> ImageEvent | None:
    actor = line.get("Actor")
    if not isinstance(actor, dict):
        return None
    attributes = actor.get("Attributes") or {}
    identity = str(actor.get("ID") or "")
    reference = str(attributes.get("name") or identity)
    nanoseconds = line.get("timeNano")
    return ImageEvent(reference, identity, nanoseconds if isinstance(nanoseconds, int) else 0)
