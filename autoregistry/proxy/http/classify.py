"""The kinds of registry requests: a pull, a step of a push, a read of a blob, or any other.

`classify` is the only code that tells the proxy's own pushes from those of other clients. Its table is
tests/proxy/http/test_classify.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from autoregistry.names import Blob, Image, Manifest, Target, Upload

_OWN_PROGRAM = "UpstreamClient(autoregistry/"
_PUSH_ID = re.compile(r" push/(\d+)")


@dataclass(frozen=True, slots=True)
class Pull:
    """A client asks for a manifest."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class PushCheck:
    """A push asks whether the registry has a manifest or a blob already."""

    target: Manifest | Blob


@dataclass(frozen=True, slots=True)
class OwnPush:
    """A push of ours uploads a part of an image, or sets a tag."""

    push_id: str
    """Empty for a push of another autoregistry process, for example of the one before a restart."""
    image: Image | None = None
    """The tag that it sets."""


@dataclass(frozen=True, slots=True)
class ManualPush:
    """Another client's push sets a tag."""

    image: Image


@dataclass(frozen=True, slots=True)
class BlobRead:
    """A client asks for a blob."""

    repository: str


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Any other request: it goes to the backend, and its response to the client."""


RequestKind = Pull | PushCheck | OwnPush | ManualPush | BlobRead | Passthrough


def classify(
    method: str, target: Target, user_agent: str, accept: str, *, nonce: str
) -> RequestKind:
    """Return the kind of a request.

    The proxy's own pushes carry its nonce: the daemon repeats the user agent of its API client as
    `UpstreamClient(...)` in every request to a registry (moby dockerversion/useragent.go). A tag that another
    autoregistry process sets is no manual push either.
    """
    is_own = nonce in user_agent
    push_id = found[1] if is_own and (found := _PUSH_ID.search(user_agent)) else ""
    match method, target:
        case "GET" | "HEAD", Manifest():
            is_check = is_own or (method == "HEAD" and _is_existence_check(accept))
            return PushCheck(target) if is_check else Pull(target)
        case "PUT", Manifest(repository, str(tag)):
            image = Image(repository, tag)
            is_own_program = is_own or _OWN_PROGRAM in user_agent
            return OwnPush(push_id, image) if is_own_program else ManualPush(image)
        case "GET", Blob(repository):
            return BlobRead(repository)
        case "HEAD", Blob() if is_own:
            return PushCheck(target)
        case _, Manifest() | Upload() if is_own:
            return OwnPush(push_id)
        case _:
            return Passthrough()


def _is_existence_check(accept: str) -> bool:
    """Return True for the Accept header with which a containerd-based client asks, before its push, for a tag.

    It lists exactly one media type and `*/*` (containerd core/remotes/docker/pusher.go); a pull lists four. Any
    response but 200 or 404 would abort that push.
    """
    types = [part.strip() for part in accept.split(",")]
    return len(types) == 2 and types[1] == "*/*" and types[0] != "*/*"
