"""The kind of each request, as a table."""

from __future__ import annotations

import pytest

from autoregistry.names import MANIFEST_TYPES, parse_target
from autoregistry.proxy.http.classify import Kind, classify, push_id

SHA = "sha256:" + "a" * 64
TAG, DIGEST, BLOB = "/v2/app/manifests/dev", f"/v2/app/manifests/{SHA}", f"/v2/app/blobs/{SHA}"
UPLOAD = "/v2/app/blobs/uploads/1?_state=x"
OURS = "docker/29.7 UpstreamClient(autoregistry/0.1 \\(n0nce\\) push/7)"
EARLIER = "docker/29.7 UpstreamClient(autoregistry/0.1 \\(other\\) push/7)"
THEIRS = "docker/29.7 UpstreamClient(Docker-Client/29.7)"
NODE = ", ".join((*MANIFEST_TYPES, "*/*"))
PUSHER = f"{MANIFEST_TYPES[0]}, */*"


@pytest.mark.parametrize(
    ("method", "target", "agent", "accept", "expected"),
    [
        pytest.param("GET", TAG, THEIRS, NODE, Kind.PULL, id="GET of a tag"),
        pytest.param("HEAD", TAG, THEIRS, NODE, Kind.PULL, id="HEAD of a tag"),
        pytest.param("GET", DIGEST, THEIRS, NODE, Kind.PULL, id="GET of a digest"),
        pytest.param("HEAD", DIGEST, "", "", Kind.PULL, id="HEAD without headers"),
        pytest.param("HEAD", TAG, THEIRS, PUSHER, Kind.PUSH_CHECK, id="pusher's check"),
        pytest.param("GET", TAG, THEIRS, PUSHER, Kind.PULL, id="a check is never a GET"),
        pytest.param("HEAD", TAG, THEIRS, "*/*, */*", Kind.PULL, id="no media type"),
        pytest.param("HEAD", TAG, THEIRS, MANIFEST_TYPES[0], Kind.PULL, id="no */*"),
        pytest.param("HEAD", TAG, OURS, NODE, Kind.PUSH_CHECK, id="own HEAD of a tag"),
        pytest.param("GET", TAG, OURS, NODE, Kind.PUSH_CHECK, id="own GET of a tag"),
        pytest.param("GET", DIGEST, OURS, "", Kind.PUSH_CHECK, id="own GET of a digest"),
        pytest.param("PUT", TAG, THEIRS, "", Kind.MANUAL_PUSH, id="PUT of a tag"),
        pytest.param("PUT", DIGEST, THEIRS, "", Kind.OTHER, id="PUT of a digest"),
        pytest.param("DELETE", TAG, THEIRS, "", Kind.OTHER, id="DELETE of a tag"),
        pytest.param("PUT", TAG, OURS, "", Kind.OWN_TAG, id="own PUT of a tag"),
        pytest.param("PUT", TAG, EARLIER, "", Kind.OWN_TAG, id="PUT of an earlier process"),
        pytest.param("GET", TAG, EARLIER, NODE, Kind.PULL, id="GET of an earlier process"),
        pytest.param("PUT", DIGEST, OURS, "", Kind.OWN_UPLOAD, id="own PUT of a digest"),
        pytest.param("DELETE", DIGEST, OURS, "", Kind.OWN_UPLOAD, id="own DELETE"),
        pytest.param("PATCH", UPLOAD, OURS, "", Kind.OWN_UPLOAD, id="own upload"),
        pytest.param("PATCH", UPLOAD, THEIRS, "", Kind.OTHER, id="upload"),
        pytest.param("GET", BLOB, THEIRS, "", Kind.BLOB_READ, id="blob"),
        pytest.param("GET", BLOB, OURS, "", Kind.BLOB_READ, id="own blob"),
        pytest.param("HEAD", BLOB, THEIRS, "", Kind.OTHER, id="HEAD of a blob"),
        pytest.param("HEAD", BLOB, OURS, "", Kind.PUSH_CHECK, id="own HEAD of a blob"),
        pytest.param("DELETE", BLOB, OURS, "", Kind.OTHER, id="own DELETE of a blob"),
        pytest.param("GET", "/v2/", OURS, "", Kind.OTHER, id="ping"),
        pytest.param("GET", "/v2/app/tags/list", THEIRS, "", Kind.OTHER, id="tag list"),
        pytest.param("BREW", TAG, THEIRS, "", Kind.OTHER, id="unknown method"),
    ],
)
def test_request_has_one_kind(
    method: str, target: str, agent: str, accept: str, expected: Kind
) -> None:
    parsed = parse_target(target)
    assert parsed is not None

    kind = classify(method, parsed, agent, accept, nonce="n0nce")

    assert expected == kind


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        pytest.param(OURS, "7", id="ours"),
        pytest.param(EARLIER, "", id="an earlier process"),
        pytest.param(THEIRS, "", id="another client"),
        pytest.param("n0nce", "", id="no id"),
    ],
)
def test_only_our_own_pushes_have_an_id(agent: str, expected: str) -> None:
    assert push_id(agent, nonce="n0nce") == expected
