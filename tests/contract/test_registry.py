"""One suite for the registry in memory and for distribution 2.8, so that the fake can be trusted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from autoregistry.names import MANIFEST_TYPES
from dev import lab
from tests.fakes.docker import MANIFEST_TYPE
from tests.fakes.registry import FakeRegistry, digest_of

CONFIG = b"{}"
MANIFEST = (
    f'{{"schemaVersion":2,"mediaType":"{MANIFEST_TYPE}","config":{{"mediaType":"application/json",'
    f'"size":2,"digest":"{digest_of(CONFIG)}"}},"layers":[]}}'
).encode()
ALL = {"Accept": ", ".join(MANIFEST_TYPES)}


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
async def client(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    if request.param == "fake":
        async with (
            FakeRegistry() as fake,
            httpx.AsyncClient(base_url=fake.url, trust_env=False) as client,
        ):
            yield client
        return
    try:
        real = lab.start_registry(tmp_path)
    except lab.LabError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
    async with httpx.AsyncClient(base_url=real.url, trust_env=False) as client:
        upload = await client.post("/v2/app/blobs/uploads/")
        await client.put(f"{upload.headers['Location']}&digest={digest_of(CONFIG)}", content=CONFIG)
        yield client
    real.stop()


async def _put(client: httpx.AsyncClient) -> httpx.Response:
    headers = {"Content-Type": MANIFEST_TYPE}
    return await client.put("/v2/app/manifests/dev", content=MANIFEST, headers=headers)


async def test_ping_is_answered(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/")).status_code == 200


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_unknown_manifest_is_404(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/v2/no/such/manifests/dev", headers=ALL)

    assert response.status_code == 404
    if method == "GET":
        assert response.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


async def test_uploaded_manifest_is_served_by_tag_and_by_digest(client: httpx.AsyncClient) -> None:
    put = await _put(client)
    digest = digest_of(MANIFEST)
    by_tag = await client.get("/v2/app/manifests/dev", headers=ALL)
    by_digest = await client.head(f"/v2/app/manifests/{digest}", headers=ALL)

    assert (201, digest) == (put.status_code, put.headers["Docker-Content-Digest"])
    for response in (by_tag, by_digest):
        assert (200, digest) == (response.status_code, response.headers["Docker-Content-Digest"])
        assert str(len(MANIFEST)) == response.headers["Content-Length"]
        assert response.headers["Content-Type"].startswith(MANIFEST_TYPE)
    assert by_tag.content == MANIFEST


async def test_accept_without_the_type_is_404(client: httpx.AsyncClient) -> None:
    await _put(client)

    response = await client.get("/v2/app/manifests/dev", headers={"Accept": "application/json"})

    assert response.status_code == 404
