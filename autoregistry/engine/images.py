"""The images of one daemon: reading them, and pushing them.

The end of a push does not prove that it succeeded: every line of its stream is read, and an `errorDetail` in it
raises (docker-py's own `push` ignores it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from autoregistry.decision import LocalImage
from autoregistry.engine.daemon import CHANGE_SECONDS, Daemon
from autoregistry.engine.streams import OnProgress, Progress, json_lines, stream_error, tar_of
from autoregistry.errors import DockerRefused, PushRefused
from autoregistry.settings import DOCKER_LIST_SECONDS, PUSH_SILENCE_SECONDS

# `?manifests=1` of inspect, and of the list one version earlier (moby api/docs/CHANGELOG.md, v1.47 and v1.48).
INSPECT_MANIFESTS_SINCE = (1, 48)
LIST_MANIFESTS_SINCE = (1, 47)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# The daemon tries https first, and the packets to a registry that is down may be lost.
REGISTRY_LOOKUP_SECONDS = 15.0
_BUILDER = "buildx_buildkit_"
_MAX_PARTS = 16  # of an image's name; `shop/team/api` has three
# base64url("{}"): mandatory up to Docker 28.3, even if no credential is needed (moby image_routes.go).
NO_CREDENTIALS = {"X-Registry-Auth": "e30="}
# The end of a push on both stores: "dev: digest: sha256:... size: 1234".
_PUSHED_DIGEST = re.compile(r": digest: (\S+) size: \d+")
_T = TypeVar("_T")


class Images:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def ping(self) -> bool:
        """Return True if Docker answers. Raises DockerUnreachable if it does not."""
        return self._daemon.request("GET", "/_ping").ok

    def daemon_identity(self) -> str:
        return self._daemon.info().identity

    def architecture(self) -> str:
        """Return the daemon's architecture as images spell it. Nodes are its containers, so it is theirs too."""
        return self._daemon.info().architecture

    def inspect(self, reference: str, *, children: bool = False) -> LocalImage | None:
        """Return the image that Docker has under this name, or None. `children` also asks for an index's platforms."""
        params = self._with_manifests(INSPECT_MANIFESTS_SINCE) if children else {}
        return self._daemon.get(f"/images/{reference}/json", parse_local_image, params=params)

    def names_of(self, identity: str) -> list[str]:
        """Return the references of the image with this Id."""
        path = f"/images/{identity}/json"
        return self._daemon.get(path, lambda facts: list(facts.get("RepoTags") or [])) or []

    def platforms(self, reference: str) -> list[str]:
        """Return its platforms, `linux/amd64`; of an index, all that Docker has. Empty without such an image."""
        params = self._with_manifests(INSPECT_MANIFESTS_SINCE)
        return self._daemon.get(f"/images/{reference}/json", _platforms, params=params) or []

    def digests(self, repositories: Iterable[str]) -> dict[str, set[str]]:
        """Return every reference of repositories (`localhost:5000/shop/api`), and the manifest digests of its image.

        Docker can push a tag only, never a digest (moby daemon/images, image_push.go).
        """
        wanted = list(repositories)
        extra = self._with_manifests(LIST_MANIFESTS_SINCE)
        images = self._list(_digests, {"reference": wanted}, **extra) or {}
        return {tag: d for tag, d in images.items() if tag.rpartition(":")[0] in wanted}

    def sizes(self, registries: Iterable[str]) -> dict[str, int]:
        """Return every reference of these registries that Docker has, and its bytes as `docker images` counts them.

        The containerd store takes ten milliseconds for each image that it lists, and none for one that it filters
        out. A `*` of the filter matches one part of a name (moby uses Go's path.Match).
        """
        patterns = [r + "/*" * parts for r in registries for parts in range(1, _MAX_PARTS + 1)]
        return self._list(_sizes, {"reference": patterns}) or {}

    def labelled(self, label: str) -> list[str]:
        """Return the names of all images with a label."""
        params = {"filters": json.dumps({"label": [label]})}
        return list(self._daemon.get("/images/json", _sizes, params=params) or ())

    def _with_manifests(self, since: tuple[int, int]) -> dict[str, str]:
        return {"manifests": "1"} if self._daemon.supports(since) else {}

    def _list(
        self, parse: Callable[[Any], _T], filters: dict[str, list[str]], **params: str
    ) -> _T | None:
        params["filters"] = json.dumps(filters)
        return self._daemon.get("/images/json", parse, params=params, timeout=DOCKER_LIST_SECONDS)

    def builders(self) -> list[str]:
        """Return the buildx builders in containers of their own. Docker's store does not have what they build."""
        params = {"filters": json.dumps({"name": [f"^/?{_BUILDER}"]})}
        return self._daemon.get("/containers/json", _builder_names, params=params) or []

    def import_file(self, reference: str, name: str, content: str) -> None:
        """Create an image with a single small file, for a check."""
        repository, _, tag = reference.rpartition(":")
        self._daemon.request(
            "POST",
            "/images/create",
            params={"fromSrc": "-", "repo": repository, "tag": tag},
            data=tar_of({name: content.encode()}),
            timeout=CHANGE_SECONDS,
        )

    def digest_in_registry(self, reference: str) -> str | None:
        """Return the digest that the daemon finds for this reference in its registry, or None."""
        return self._daemon.get(
            f"/distribution/{reference}/json",
            lambda facts: str(facts["Descriptor"]["digest"]),
            headers=NO_CREDENTIALS,
            timeout=CHANGE_SECONDS,
        )

    def remove(self, reference: str) -> None:
        """Remove a name and, with its last name, the image. A name that does not exist is not an error."""
        self._daemon.delete(f"/images/{reference}")

    def push(self, reference: str, on_progress: OnProgress, push_id: str = "") -> Progress:
        """Push one tag to its registry and read the stream to its end.

        `push_id` becomes part of the user agent, which the daemon repeats in its requests to the registry.

        Raises PushRefused with Docker's cause, DockerUnreachable if the stream breaks off, and DockerRefused if a
        line of it cannot be read.
        """
        name, _, tag = reference.rpartition(":")
        progress = Progress()
        headers = {**NO_CREDENTIALS, "User-Agent": f"{self._daemon.user_agent} push/{push_id}"}
        with self._daemon.stream(
            "POST",
            f"/images/{name}/push",
            PUSH_SILENCE_SECONDS,
            params={"tag": tag},
            headers=headers,
            may_be_missing=True,
        ) as response:
            if response.status_code == 404:
                raise PushRefused(f"Docker no longer has the image {reference}")
            for line in json_lines(response):
                if cause := stream_error(line):
                    raise PushRefused(cause)
                if pushed := _PUSHED_DIGEST.search(str(line.get("status", ""))):
                    progress.digest = pushed[1]
                if progress.read(line):
                    on_progress(progress)
        if progress.digest is None:
            raise PushRefused("Docker ended the push before it was complete")
        return progress


def trigger_registry_lookup(daemon: Daemon, reference: str) -> None:
    """Make the daemon look a reference up in its registry; the result is ignored. Raises DockerUnreachable."""
    with suppress(DockerRefused):  # the registry refused, or is not there
        daemon.request("GET", f"/distribution/{reference}/json", timeout=REGISTRY_LOOKUP_SECONDS)


def parse_local_image(facts: dict[str, Any]) -> LocalImage:
    """Return the image that a response to `GET /images/{name}/json` describes, with `?manifests=1` or without."""
    descriptor = facts.get("Descriptor") or {}
    manifests = facts.get("Manifests") or []
    return LocalImage(
        identity=str(facts["Id"]),
        is_index=descriptor.get("mediaType") in INDEX_TYPES,
        children=frozenset(str(m["ID"]) for m in manifests if m.get("Kind") == "image"),
        is_complete=all(m.get("Available") for m in manifests),
        tagged_at=_seconds((facts.get("Metadata") or {}).get("LastTagTime") or ""),
    )


def _platforms(facts: dict[str, Any]) -> list[str]:
    """Return the `os/architecture` of an image, or those of an index that Docker has."""
    manifests = facts.get("Manifests") or []
    available = (m for m in manifests if m.get("Kind") == "image" and m.get("Available"))
    platforms = (m["ImageData"]["Platform"] for m in available)
    names = {f"{p['os']}/{p['architecture']}" for p in platforms}
    own = (str(facts.get(key) or "unknown") for key in ("Os", "Architecture"))
    return sorted(names) or ["/".join(own)]


def platform_mismatch(platforms: Sequence[str], architecture: str) -> str:
    """Return why nodes of this architecture need emulation for these platforms; empty if they do not."""
    architectures = {platform.partition("/")[2] for platform in platforms}
    if not architecture or not architectures or architecture in architectures:
        return ""
    built_for = " and ".join(platforms)
    return f"is for {built_for}, and the nodes are {architecture}: docker build --platform linux/{architecture}"


def _seconds(time: str) -> float:
    """Return Docker's time as seconds since the epoch; 0 for none, which Docker writes as year 1."""
    has_time = time and not time.startswith("0001-")
    return datetime.fromisoformat(time).timestamp() if has_time else 0.0


def _digests(images: list[dict[str, Any]]) -> dict[str, set[str]]:
    return {
        tag: {
            str(image["Id"]),
            *(entry.rpartition("@")[2] for entry in image.get("RepoDigests") or []),
            *(str(m["ID"]) for m in image.get("Manifests") or []),
        }
        for image in images
        for tag in image.get("RepoTags") or []
    }


def _sizes(images: list[dict[str, Any]]) -> dict[str, int]:
    return {t: int(i.get("Size") or 0) for i in images for t in i.get("RepoTags") or []}


def _builder_names(containers: list[dict[str, Any]]) -> list[str]:
    names = (str(entry["Names"][0]).removeprefix("/") for entry in containers)
    return sorted(name.removeprefix(_BUILDER).rstrip("0123456789") for name in names)
