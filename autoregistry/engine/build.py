"""Getting an image that is not there: pulling it, or building it from a context made in memory.

Pulls are anonymous: a credential helper that is broken, or slow to ask, must not stop us. Who needs a
credential pulls once with `docker pull`, and the image is there. Builds use the builder that every daemon has
(BuildKit needs a plugin on the client's side).
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from docker.utils.config import load_general_config

from autoregistry.engine.daemon import Daemon, said, translated
from autoregistry.engine.images import NO_CREDENTIALS
from autoregistry.engine.streams import json_lines
from autoregistry.errors import ImageUnavailable

# Silence of a registry that is slow, and of a step of a build (pip resolves and compiles without a word).
PULL_SILENCE_SECONDS = 300.0
BUILD_SILENCE_SECONDS = 900.0
CHANGE_SECONDS = 60.0
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_KEPT_LINES = 15
# docker.com "Use a proxy server with the Docker CLI".
_PROXIES = {
    "httpProxy": "http_proxy",
    "httpsProxy": "https_proxy",
    "noProxy": "no_proxy",
    "ftpProxy": "ftp_proxy",
    "allProxy": "all_proxy",
}


@dataclass(slots=True)
class Amount:
    """How much of a pull is there, in the bytes that Docker reports for each layer."""

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return sum(done for done, _ in self.layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self.layers.values())

    def read(self, line: Mapping[str, Any]) -> bool:
        """Take in one line of the stream; whether it changed anything."""
        layer, detail = line.get("id"), line.get("progressDetail") or {}
        if not layer:
            return False
        match line.get("status"):
            case "Downloading" if detail.get("total"):
                self.layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
            case "Download complete" | "Pull complete" if layer in self.layers:
                self.layers[layer] = (self.layers[layer][1],) * 2
            case _:
                return False
        return True


OnAmount = Callable[[int, int], None]
"""Bytes done, bytes in all."""
OnStep = Callable[[int, int, str], None]
"""Step, of how many, and its instruction."""


class Supply:
    """Brings images into one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def identity(self, reference: str) -> str | None:
        """The image's Id; None where it is not there."""
        answer = self._daemon.request("GET", f"/images/{reference}/json")
        return None if answer.status_code == 404 else str(answer.json()["Id"])

    def labelled(self, label: str) -> tuple[str, ...]:
        """The names of all images that carry a label."""
        params = {"filters": json.dumps({"label": [label]})}
        listed = self._daemon.request("GET", "/images/json", params=params).json()
        return tuple(tag for image in listed for tag in image.get("RepoTags") or [])

    def remove(self, reference: str) -> None:
        """Remove a name and, if it was the last, its image; one that is gone is no error."""
        self._daemon.request("DELETE", f"/images/{reference}", timeout=CHANGE_SECONDS)

    def pull(self, reference: str, on_amount: OnAmount) -> None:
        """Pull an image. Raises ImageUnavailable with Docker's cause."""
        amount = Amount()
        answer = self._daemon.request(
            "POST",
            "/images/create",
            params=_pull_parameters(reference),
            headers=NO_CREDENTIALS,
            timeout=PULL_SILENCE_SECONDS,
            stream=True,
        )
        with translated(self._daemon.host), answer:
            if answer.status_code == 404:
                raise ImageUnavailable(said(answer))
            for line in json_lines(answer):
                if cause := _cause(line):
                    raise ImageUnavailable(cause)
                if amount.read(line):
                    on_amount(amount.done, amount.total)

    def build(
        self, tag: str, context: IO[bytes], arguments: Mapping[str, str], on_step: OnStep
    ) -> None:
        """Build an image from a tar. Raises ImageUnavailable with the last lines of what failed."""
        params = {
            "t": tag,
            "buildargs": json.dumps({**self._proxies(), **arguments}),
            "rm": "1",
            "forcerm": "1",
        }
        answer = self._daemon.request(
            "POST",
            "/build",
            params=params,
            headers={"Content-Type": "application/x-tar"},
            data=context,
            timeout=BUILD_SILENCE_SECONDS,
            stream=True,
        )
        kept: deque[str] = deque(maxlen=_KEPT_LINES)
        with translated(self._daemon.host), answer:
            for line in json_lines(answer):
                text = str(line.get("stream") or "")
                if cause := _cause(line):
                    raise ImageUnavailable("\n".join([cause, *kept]))
                if step := _STEP.match(text):
                    kept.clear()
                    on_step(int(step[1]), int(step[2]), step[3].strip())
                elif text.strip():
                    kept.append(text.rstrip())

    def _proxies(self) -> dict[str, str]:
        """The proxies of `~/.docker/config.json`, which `docker build` hands to its builds as well."""
        settings = load_general_config().get("proxies") or {}
        chosen = settings.get(self._daemon.host) or settings.get("default") or {}
        return {
            written: str(chosen[key])
            for key, name in _PROXIES.items()
            if chosen.get(key)
            for written in (name, name.upper())
        }


def _pull_parameters(reference: str) -> dict[str, str]:
    if "@" in reference:
        return {"fromImage": reference}
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:  # without a tag Docker would pull all of them
        return {"fromImage": reference, "tag": "latest"}
    return {"fromImage": name, "tag": tag}


def _cause(line: Mapping[str, Any]) -> str:
    return str((line.get("errorDetail") or {}).get("message") or line.get("error") or "").strip()
