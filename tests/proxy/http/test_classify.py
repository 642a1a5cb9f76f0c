"""The kind of each request, as a table."""

from __future__ import annotations

import pytest

from autoregistry.names import MANIFEST_TYPES, Blob, Digest, Image, Manifest, parse_target
from autoregistry.proxy.http.classify import (
    BlobRead,
    ManualPush,
    OwnPush,
    Passthrough,
    Pull,
    PushCheck,
    RequestKind,
    classify,
)

SHA = "sha256:" + "a" * 64
TAG, DIGEST, BLOB = "/v2/app/manifests/dev", f"/v2/app/manifests/{SHA}", f"/v2/app/blobs/{SHA}"
UPLOAD = "/v2/app/blobs/uploads/1?_state=x"
BY_TAG, BY_DIGEST, IMAGE = (
    Manifest("app", "dev"),
    Manifest("app", Digest(SHA)),
    Image("app", "dev"),
)

OURS = "docker/29.7 UpstreamClient(autoregistry/0.1 \\(n0nce\\) push/7)"
EARLIER = "docker/29.7 UpstreamClient(autoregistry/0.1 \\(other\\) push/7)"
THEIRS = "docker/29.7 UpstreamClient(Docker-Client/29.7)"
NODE = ", ".join((*MANIFEST_TYPES, "*/*"))
PUSHER = f"{MANIFEST_TYPES[0]}, */*"


@pytest.mark.parametrize(
    ("method", "target", "agent", "accept", "expected"),
    [
        pytest.param("GET", TAG, THEIRS, NODE, Pull(BY_TAG), id="GET of a tag"),
        pytest.param("HEAD", TAG, THEIRS, NODE, Pull(BY_TAG), id="HEAD of a tag"),
        pytest.param("GET", DIGEST, THEIRS, NODE, Pull(BY_DIGEST), id="GET of a digest"),
        pytest.param("HEAD", DIGEST, "", "", Pull(BY_DIGEST), id="HEAD without headers"),
        pytest.param("HEAD", TAG, THEIRS, PUSHER, PushCheck(BY_TAG), id="pusher's check"),
        pytest.param("GET", TAG, THEIRS, PUSHER, Pull(BY_TAG), id="a check is never a GET"),
        pytest.param("HEAD", TAG, THEIRS, "*/*, */*", Pull(BY_TAG), id="no media type"),
        pytest.param("HEAD", TAG, THEIRS, MANIFEST_TYPES[0], Pull(BY_TAG), id="no */*"),
        pytest.param("HEAD", TAG, OURS, NODE, PushCheck(BY_TAG), id="own HEAD of a tag"),
        pytest.param("GET", TAG, OURS, NODE, PushCheck(BY_TAG), id="own GET of a tag"),
        pytest.param("GET", DIGEST, OURS, "", PushCheck(BY_DIGEST), id="own GET of a digest"),
        pytest.param("PUT", TAG, THEIRS, "", ManualPush(IMAGE), id="PUT of a tag"),
        pytest.param("PUT", DIGEST, THEIRS, "", Passthrough(), id="PUT of a digest"),
        pytest.param("DELETE", TAG, THEIRS, "", Passthrough(), id="DELETE of a tag"),
        pytest.param("PUT", TAG, OURS, "", OwnPush("7", IMAGE), id="own PUT of a tag"),
        pytest.param("PUT", TAG, EARLIER, "", OwnPush("", IMAGE), id="PUT of an earlier process"),
        pytest.param("GET", TAG, EARLIER, NODE, Pull(BY_TAG), id="GET of an earlier process"),
        pytest.param("PUT", DIGEST, OURS, "", OwnPush("7"), id="own PUT of a digest"),
        pytest.param("DELETE", DIGEST, OURS, "", OwnPush("7"), id="own DELETE"),
        pytest.param("PATCH", UPLOAD, OURS, "", OwnPush("7"), id="own upload"),
        pytest.param("PATCH", UPLOAD, THEIRS, "", Passthrough(), id="upload"),
        pytest.param("GET", BLOB, THEIRS, "", BlobRead("app"), id="blob"),
        pytest.param("GET", BLOB, OURS, "", BlobRead("app"), id="own blob"),
        pytest.param("HEAD", BLOB, THEIRS, "", Passthrough(), id="HEAD of a blob"),
        pytest.param(
            "HEAD", BLOB, OURS, "", PushCheck(Blob("app", Digest(SHA))), id="own HEAD of a blob"
        ),
        pytest.param("DELETE", BLOB, OURS, "", Passthrough(), id="own DELETE of a blob"),
        pytest.param("GET", "/v2/", OURS, "", Passthrough(), id="ping"),
        pytest.param("GET", "/v2/app/tags/list", THEIRS, "", Passthrough(), id="tag list"),
        pytest.param("BREW", TAG, THEIRS, "", Passthrough(), id="unknown method"),
    ],
)
def test_request_has_one_kind(
    method: str, target: str, agent: str, accept: str, expected: RequestKind
) -> None:
    parsed = parse_target(target)
    assert parsed is not None

    kind = classify(method, parsed, agent, accept, nonce="n0nce")

    assert expected == kind
