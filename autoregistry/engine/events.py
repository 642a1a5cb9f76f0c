"""What Docker reports about its images, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3

from autoregistry.engine.daemon import Daemon, translated

# `tag` is sent for every build, retag, load and import of a named image, on both stores; `load`, `import` and
# `pull` name the image as well (moby api/swagger.yaml, "SystemEvents").
ACTIONS = ("tag", "load", "import", "pull")
# A connection that died without a word (a machine that slept, a tunnel) looks like a Docker that has nothing to
# say: after so long a silence it is asked again, from where it was.
SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ImageEvent:
    """Docker has something under this name that it may not have had before."""

    reference: str
    identity: str
    nanoseconds: int
    """Docker's clock, since the epoch."""


def image_events(
    daemon: Daemon, since_nanoseconds: int | None, *, silence: float = SILENCE_SECONDS
) -> Generator[ImageEvent | None, None, None]:
    """Follow the daemon's image events until the connection ends; blocks. None comes first, once it is there.

    Docker keeps its last 256 events; older ones than those are not repeated (moby daemon/events/events.go).
    Raises DockerUnreachable when the daemon goes away.
    """
    filters = {"type": ["image"], "event": list(ACTIONS)}
    for line in _followed(daemon, filters, since_nanoseconds, silence):
        if line is None:
            yield None
        elif event := _read(line):
            yield event


def container_events(
    daemon: Daemon, *labels: str, actions: tuple[str, ...] = ("start",)
) -> Generator[dict[str, str] | None, None, None]:
    """The labels, `name` and `action` of each container with these labels that starts from now on; blocks.

    None comes first, once Docker is listened to: who asks it then how things are misses nothing between the two.
    Raises DockerUnreachable when the daemon goes away.
    """
    filters = {"type": ["container"], "event": list(actions), "label": list(labels)}
    for line in _followed(daemon, filters, None, SILENCE_SECONDS):
        yield None if line is None else {**line["Actor"]["Attributes"], "action": line["Action"]}


def _followed(
    daemon: Daemon, filters: dict[str, list[str]], since: int | None, silence: float
) -> Generator[dict[str, Any] | None, None, None]:
    """Docker's lines, nothing twice and nothing missed, over as many connections as it takes; None comes first."""
    is_first = True
    while True:
        params = {"filters": json.dumps(filters)}
        if since is not None:
            params["since"] = f"{since // 10**9}.{since % 10**9:09d}"
        answer = daemon.request("GET", "/events", params=params, timeout=silence, stream=True)
        with translated(daemon.host), answer:
            if is_first:
                is_first = False
                yield None
            if since is None:  # by Docker's clock, where nothing between us takes it away
                stated = answer.headers.get("Date")
                began = parsedate_to_datetime(stated).timestamp() if stated else time.time()
                since = int(began) * 10**9
            try:
                for text in answer.iter_lines(chunk_size=None):
                    if text.strip():
                        line = json.loads(text)
                        since = max(since, int(line.get("timeNano") or 0) + 1)
                        yield line
            except requests.ConnectionError as exc:
                if not isinstance(exc.args[0], urllib3.exceptions.ReadTimeoutError):
                    raise
            else:
                return


def _read(line: dict[str, Any]) -> ImageEvent | None:
    actor = line.get("Actor")
    if not isinstance(actor, dict):
        return None
    attributes = actor.get("Attributes") or {}
    identity = str(actor.get("ID") or "")
    # A pull's name is without its tag (moby daemon/containerd/image_pull.go, distribution/pull.go): its Id has it.
    name = "" if line.get("Action") == "pull" else attributes.get("name")
    reference = str(name or identity)
    nanoseconds = line.get("timeNano")
    return ImageEvent(reference, identity, nanoseconds if isinstance(nanoseconds, int) else 0)
