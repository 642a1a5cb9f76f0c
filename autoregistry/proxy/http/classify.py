"""What kind of request the proxy serves: a pull, a step of a push, a read of a blob, or none of these.

`classify` is the only code that tells the proxy's own pushes from those of other clients. Its table is
tests/proxy/http/test_classify.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.names import Blob, Image, Manifest, Target, Upload


@dataclass(frozen=True, slots=True)
class Pull:
    """A client asks for a manifest."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class ManifestCheck:
    """A push, ours or of another client, asks which manifest the registry has already."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class BlobCheck:
    """A push of ours asks whether the registry has a blob already."""


@dataclass(frozen=True, slots=True)
class OwnTag:
    """A push of ours sets a tag."""

    image: Image


@dataclass(frozen=True, slots=True)
class OwnUpload:
    """A push of ours uploads a part of an image."""

    repository: str


@dataclass(frozen=True, slots=True)
class ManualPush:
    """Another client's push sets a tag."""

    image: Image


@dataclass(frozen=True, slots=True)
class BlobRead:
    """A client asks for a blob."""

    repository: str
    is_redirected: bool


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Any other request: it goes to the backend, and its response to the client."""


RequestKind = (
    Pull | ManifestCheck | BlobCheck | OwnTag | OwnUpload | ManualPush | BlobRead | Passthrough
)


def classify(
    method: str,
    target: Target,
    user_agent: str,
    accept: str,
    *,
    nonce: str,
    is_from_docker_network: bool,
) -> RequestKind:
    """Return the kind of a request.

    The proxy's own pushes carry its nonce: the daemon repeats the user agent of its API client as
    `UpstreamClient(...)` in every request to a registry (moby dockerversion/useragent.go).

    A client on Docker's network can reach the backend as well as the proxy, and is redirected to it for blobs.
    """
    is_own = nonce in user_agent
    match method, target:
        case "GET" | "HEAD", Manifest():
            is_check = is_own or (method == "HEAD" and _is_existence_check(accept))
            return ManifestCheck(target) if is_check else Pull(target)
        case "PUT", Manifest(repository, str(tag)):
            image = Image(repository, tag)
            return OwnTag(image) if is_own else ManualPush(image)
        case "GET", Blob(repository):
            return BlobRead(repository, is_redirected=is_from_docker_network)
        case "HEAD", Blob() if is_own:
            return BlobCheck()
        case _, Manifest(repository) | Upload(repository) if is_own:
            return OwnUpload(repository)
        case _:
            return Passthrough()


def _is_existence_check(accept: str) -> bool:
    """Return True for the Accept header with which a containerd-based client asks, before its push, for a tag.

    It lists exactly one media type and `*/*` (containerd core/remotes/docker/pusher.go); a pull lists four. Any
    response but 200 or 404 would abort that push.
    """
    types = [part.strip() for part in accept.split(",")]
    return len(types) == 2 and types[1] == "*/*" and types[0] != "*/*"
