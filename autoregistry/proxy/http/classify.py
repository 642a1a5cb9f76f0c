"""The kinds of registry requests: a pull, a step of a push, a read of a blob, or any other.

`classify` and `push_id` are the only code that tells the proxy's own pushes from those of other clients. Their table
is tests/proxy/http/test_classify.py.
"""

from __future__ import annotations

import re
from enum import Enum

from autoregistry.names import Blob, Manifest, Target, Upload

_OWN_PROGRAM = "UpstreamClient(autoregistry/"
_PUSH_ID = re.compile(r" push/(\d+)")


class Kind(Enum):
    """The kind of a registry request."""

    PULL = "a client asks for a manifest"
    PUSH_CHECK = "a push asks whether the registry has a manifest or a blob already"
    OWN_UPLOAD = "a push of ours uploads a part of an image"
    OWN_TAG = "a push of ours, or of another autoregistry process, sets a tag"
    MANUAL_PUSH = "another client's push sets a tag"
    BLOB_READ = "a client asks for a blob"
    OTHER = "any other request: it goes to the backend, and its response to the client"


def classify(method: str, target: Target, user_agent: str, accept: str, *, nonce: str) -> Kind:
    """Return the kind of a request.

    The proxy's own pushes carry its nonce: the daemon repeats the user agent of its API client as
    `UpstreamClient(...)` in every request to a registry (moby dockerversion/useragent.go). A tag that another
    autoregistry process sets is no manual push either.
    """
    is_own = nonce in user_agent
    match method, target:
        case "GET" | "HEAD", Manifest():
            is_check = is_own or (method == "HEAD" and _is_existence_check(accept))
            return Kind.PUSH_CHECK if is_check else Kind.PULL
        case "PUT", Manifest(reference=str()):
            return Kind.OWN_TAG if is_own or _OWN_PROGRAM in user_agent else Kind.MANUAL_PUSH
        case "GET", Blob():
            return Kind.BLOB_READ
        case "HEAD", Blob() if is_own:
            return Kind.PUSH_CHECK
        case _, Manifest() | Upload() if is_own:
            return Kind.OWN_UPLOAD
        case _:
            return Kind.OTHER


def push_id(user_agent: str, *, nonce: str) -> str:
    """Return the id of our push; empty for another process's push, for example of the one before a restart."""
    match = _PUSH_ID.search(user_agent) if nonce in user_agent else None
    return match[1] if match else ""


def _is_existence_check(accept: str) -> bool:
    """Return True for the Accept header with which a containerd-based client asks, before its push, for a tag.

    It lists exactly one media type and `*/*` (containerd core/remotes/docker/pusher.go); a pull lists four. Any
    response but 200 or 404 would abort that push.
    """
    types = [part.strip() for part in accept.split(",")]
    return len(types) == 2 and types[1] == "*/*" and types[0] != "*/*"
