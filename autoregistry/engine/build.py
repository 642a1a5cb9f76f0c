"""Getting an image that Docker does not have: pulling it, or building it from a context in memory.

Pulls are anonymous: a credential helper that is broken or slow must not stop us. A user whose image needs a login
runs `docker pull` once. Builds use the classic builder, which every daemon has (BuildKit needs a plugin of the CLI).
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO

from autoregistry.engine.compat import load_general_config
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.images import NO_CREDENTIALS
from autoregistry.engine.streams import OnProgress, Progress, json_lines, stream_error
from autoregistry.errors import ImageUnavailable

# The silence of a slow registry, and of a build step (pip resolves and compiles without output).
PULL_SILENCE_SECONDS = 300.0
BUILD_SILENCE_SECONDS = 900.0
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_ERROR_LINES = 15
# docker.com "Use a proxy server with the Docker CLI".
_PROXIES = {f"{kind}Proxy": f"{kind}_proxy" for kind in ("http", "https", "no", "ftp", "all")}

OnStep = Callable[[int, int, str], None]
"""Called with the number of a build step, the number of all steps, and the step's instruction."""


def pull_image(daemon: Daemon, reference: str, on_progress: OnProgress) -> None:
    """Pull an image. Raises DockerRefused with Docker's cause."""
    progress = Progress()
    # Without a tag Docker would pull all of them.
    has_tag = "@" in reference or ":" in reference.rpartition("/")[2]
    params = {"fromImage": reference if has_tag else f"{reference}:latest"}
    with daemon.stream(
        "POST", "/images/create", PULL_SILENCE_SECONDS, params=params, headers=NO_CREDENTIALS
    ) as response:
        for line in json_lines(response):
            if cause := stream_error(line):
                raise ImageUnavailable(cause)
            if progress.read(line) and progress.total_bytes:
                on_progress(progress)


def build_image(
    daemon: Daemon, tag: str, context: IO[bytes], arguments: Mapping[str, str], on_step: OnStep
) -> None:
    """Build an image from a tar. Raises ImageUnavailable with the last lines of the failed step."""
    params = {
        "t": tag,
        "buildargs": json.dumps({**_proxy_arguments(daemon.host), **arguments}),
        "rm": "1",
        "forcerm": "1",
    }
    output: deque[str] = deque(maxlen=_ERROR_LINES)
    headers = {"Content-Type": "application/x-tar"}
    with daemon.stream(
        "POST", "/build", BUILD_SILENCE_SECONDS, params=params, headers=headers, data=context
    ) as response:
        for line in json_lines(response):
            text = str(line.get("stream") or "")
            if cause := stream_error(line):
                raise ImageUnavailable("\n".join([cause, *output]))
            if step := _STEP.match(text):
                output.clear()
                on_step(int(step[1]), int(step[2]), step[3].strip())
            elif text.strip():
                output.append(text.rstrip())


def _proxy_arguments(host: str) -> dict[str, str]:
    """Return the proxies of `~/.docker/config.json` as build arguments, as `docker build` passes them."""
    settings = load_general_config().get("proxies") or {}
    proxies = settings.get(host) or settings.get("default") or {}
    return {
        variable: str(proxies[key])
        for key, name in _PROXIES.items()
        if proxies.get(key)
        for variable in (name, name.upper())
    }
