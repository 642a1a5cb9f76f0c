"""Docker's images: what it has under a name, and pushing it.

A push is not trusted because it ended: every line of its stream is read, and `errorDetail` in it raises
(docker-py's own `push` does not look).
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from autoregistry.decision import LocalImage
from autoregistry.engine.daemon import (
    INSPECT_MANIFESTS_SINCE,
    LIST_MANIFESTS_SINCE,
    Daemon,
    translated,
)
from autoregistry.engine.platforms import platforms
from autoregistry.engine.progress import OnProgress, Progress
from autoregistry.engine.streams import json_lines
from autoregistry.errors import DockerRefused, PushRefused
from autoregistry.settings import DOCKER_LIST_SECONDS, PUSH_SILENCE_SECONDS

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CHANGE_SECONDS = 60.0
# The daemon tries https first, and a registry that is not there may swallow its packets.
DISTRIBUTION_SECONDS = 15.0
_BUILDER = "buildx_buildkit_"
_MOST_PARTS = 16  # of an image's name, `shop/team/api` has three
# base64url("{}"): mandatory up to Docker 28.3, even where no credential is needed (moby image_routes.go).
NO_CREDENTIALS = {"X-Registry-Auth": "e30="}
# How both stores end a push: "dev: digest: sha256:... size: 1234".
_LAST_WORDS = re.compile(r": digest: (\S+) size: \d+")


class Images:
    """The images of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def ping(self) -> bool:
        """Whether Docker answers at all; raises DockerUnreachable where it does not."""
        return self._daemon.request("GET", "/_ping").ok

    def daemon_identity(self) -> str:
        """Which daemon this is."""
        return self._daemon.info().identity

    def inspect(self, reference: str, *, children: bool = False) -> LocalImage | None:
        """What Docker has under this name, or None. `children` also asks for an index's platforms."""
        with_manifests = children and self._daemon.supports(INSPECT_MANIFESTS_SINCE)
        answer = self._daemon.request(
            "GET",
            f"/images/{reference}/json",
            params={"manifests": "1"} if with_manifests else None,
        )
        return None if answer.status_code == 404 else local_image(answer.json())

    def tags_with(self, reference: str, digest: str) -> list[str]:
        """The tags of the repository `localhost:5000/shop/api` whose image has this manifest digest.

        Docker can push a tag only, never a digest (moby daemon/images, image_push.go).
        """
        params = {"filters": json.dumps({"reference": [reference]})}
        if self._daemon.supports(LIST_MANIFESTS_SINCE):
            params["manifests"] = "1"
        listed = self._list(params)
        return [
            tag.removeprefix(f"{reference}:")
            for image in listed
            if digest in _digests(image)
            for tag in image.get("RepoTags") or []
            if tag.startswith(f"{reference}:")
        ]

    def sizes(self, registries: Iterable[str]) -> dict[str, int]:
        """Every reference of these registries that Docker has, and its bytes as `docker images` counts them.

        The containerd store takes ten milliseconds for each image that it lists, and none for one that it filters
        out. A `*` of the filter stands for one part of a name (moby uses Go's path.Match).
        """
        patterns = [r + "/*" * parts for r in registries for parts in range(1, _MOST_PARTS + 1)]
        params = {"filters": json.dumps({"reference": patterns})}
        listed = self._list(params)
        return {t: int(image.get("Size") or 0) for image in listed for t in image["RepoTags"] or []}

    def _list(self, params: dict[str, str]) -> list[Any]:
        return list(
            self._daemon.request(
                "GET", "/images/json", params=params, timeout=DOCKER_LIST_SECONDS
            ).json()
        )

    def platforms(self, reference: str) -> list[str]:
        """What it runs on, `linux/amd64`; of an index all that Docker has. Empty where it has no such image."""
        params = {"manifests": "1"} if self._daemon.supports(INSPECT_MANIFESTS_SINCE) else None
        answer = self._daemon.request("GET", f"/images/{reference}/json", params=params)
        return [] if answer.status_code == 404 else platforms(answer.json())

    def architecture(self) -> str:
        """The daemon's, and so that of the nodes that are its containers, as images say it."""
        return self._daemon.info().architecture

    def builders(self) -> list[str]:
        """buildx builders in containers of their own: what they build is in no store of Docker's."""
        params = {"filters": json.dumps({"name": [f"^/?{_BUILDER}"]})}
        listed = self._daemon.request("GET", "/containers/json", params=params).json()
        names = (str(entry["Names"][0]).removeprefix("/") for entry in listed)
        return sorted(name.removeprefix(_BUILDER).rstrip("0123456789") for name in names)

    def names_of(self, identity: str) -> list[str]:
        """The references of the image with this Id."""
        answer = self._daemon.request("GET", f"/images/{identity}/json")
        return [] if answer.status_code == 404 else list(answer.json().get("RepoTags") or [])

    def import_file(self, reference: str, name: str, content: str) -> None:
        """Make an image of a single small file, such as a check needs."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
        packed.seek(0)
        repository, _, tag = reference.rpartition(":")
        self._daemon.request(
            "POST",
            "/images/create",
            params={"fromSrc": "-", "repo": repository, "tag": tag},
            data=packed,
            timeout=CHANGE_SECONDS,
        )

    def digest_in_registry(self, reference: str) -> str | None:
        """What the registry in this name has under it, asked by the daemon itself; None where it has nothing."""
        answer = self._daemon.request(
            "GET", f"/distribution/{reference}/json", headers=NO_CREDENTIALS, timeout=CHANGE_SECONDS
        )
        return None if answer.status_code == 404 else str(answer.json()["Descriptor"]["digest"])

    def remove(self, reference: str) -> None:
        """Take a name away, and the image with its last name; one that is gone is no error."""
        self._daemon.request("DELETE", f"/images/{reference}", timeout=CHANGE_SECONDS)

    def push(self, reference: str, on_progress: OnProgress) -> Progress:
        """Push one tag to its registry and read the stream to its end.

        Raises PushRefused with Docker's cause, or DockerUnreachable where the stream breaks off.
        """
        name, _, tag = reference.rpartition(":")
        progress = Progress()
        answer = self._daemon.request(
            "POST",
            f"/images/{name}/push",
            params={"tag": tag},
            headers=NO_CREDENTIALS,
            timeout=PUSH_SILENCE_SECONDS,
            stream=True,
        )
        with translated(self._daemon.host), answer:
            if answer.status_code == 404:
                raise PushRefused(f"Docker has no image {reference} any more")
            for line in json_lines(answer):
                if cause := (line.get("errorDetail") or {}).get("message") or line.get("error"):
                    raise PushRefused(str(cause))
                if last := _LAST_WORDS.search(str(line.get("status", ""))):
                    progress.digest = last[1]
                if progress.read(line):
                    on_progress(progress)
        if progress.digest is None:
            raise PushRefused("Docker ended the push before it was complete")
        return progress


def local_image(facts: dict[str, Any]) -> LocalImage:
    """An answer of `GET /images/{name}/json`, with `?manifests=1` or without, as a value."""
    descriptor = facts.get("Descriptor") or {}
    manifests = facts.get("Manifests") or []
    return LocalImage(
        identity=str(facts["Id"]),
        is_index=descriptor.get("mediaType") in INDEX_TYPES,
        children=frozenset(str(m["ID"]) for m in manifests if m.get("Kind") == "image"),
        is_complete=all(m.get("Available") for m in manifests),
        tagged_at=_seconds((facts.get("Metadata") or {}).get("LastTagTime") or ""),
    )


def _seconds(moment: str) -> float:
    """Docker's time as seconds since the epoch; 0 where there is none (it then says year 1)."""
    if not moment or moment.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(moment).timestamp()


def _digests(image: dict[str, Any]) -> set[str]:
    found = {str(image["Id"])}
    found.update(entry.rpartition("@")[2] for entry in image.get("RepoDigests") or [])
    found.update(str(m["ID"]) for m in image.get("Manifests") or [])
    return found


def trigger_registry_lookup(daemon: Daemon, reference: str) -> None:
    """Make the daemon look a reference up in its registry, whatever comes of it. Raises DockerUnreachable."""
    with suppress(DockerRefused):  # it asked somebody, who refused or is not there
        daemon.request("GET", f"/distribution/{reference}/json", timeout=DISTRIBUTION_SECONDS)
