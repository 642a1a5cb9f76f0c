"""A push restores what the registry cannot read or has lost. A Docker that stops is never taken for agreement."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from autoregistry.decision import LocalImage
from autoregistry.errors import DockerUnreachable
from autoregistry.events import PushFinished
from tests.fakes.docker import MANIFEST_TYPE, FakeDocker, FakeImage, user_agent
from tests.fakes.registry import digest_of
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
LOST = f"sha256:{'a' * 64}"


class StopsAfterFirstInspect(FakeDocker):
    """A Docker that stops just after it has reported a newer image."""

    def inspect(self, reference: str, *, children: bool = False) -> LocalImage | None:
        if reference == APP and APP in self.inspected:
            raise DockerUnreachable("Docker does not response")
        return super().inspect(reference, children=children)


async def test_pull_fails_if_docker_stops_before_its_push(
    idle_lab: Lab,
) -> None:
    lab = idle_lab
    lab.docker = StopsAfterFirstInspect(lab.docker.store)
    lab.docker.build(APP, "v2")
    lab.registry.put("app", "dev", MANIFEST_TYPE, b'{"config": {"digest": "sha256:old"}}')
    async with lab.serving():
        refused, again = await lab.pull(), await lab.pull()

    assert (refused.status_code, refused.headers["Autoregistry"]) == (403, "push-failed")
    assert "became unreachable" in refused.reason_phrase
    assert again.status_code == 403


@pytest.mark.parametrize("agent", ["docker/28.5.2", "containerd/2.3.7"])
async def test_existence_check_of_a_push_gets_404_for_an_unreadable_tag(
    lab: Lab, agent: str
) -> None:
    """The containerd store sends it first, and gives up over any response but 200 and 404."""
    lab.registry.unreadable = 10

    response = await lab.client.head(
        "/v2/app/manifests/dev", headers={"Accept": f"{MANIFEST_TYPE}, */*", "User-Agent": agent}
    )

    assert (response.status_code, response.headers["Autoregistry"]) == (404, "own-push")


@pytest.mark.parametrize("part", ["blobs", "manifests"])
async def test_lost_part_is_pushed_again(lab: Lab, part: str) -> None:
    built = lab.docker.build(APP, "v1")
    await lab.pull()
    if part == "blobs":
        assert (await lab.client.get(f"/v2/app/blobs/{LOST}")).status_code == 404
        response = await lab.pull()
    else:
        del lab.registry.manifests["app", built.digest]
        response = await lab.pull(f"app@{built.digest}")

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")
    assert (await lab.pull()).headers["Autoregistry"] == "up-to-date"
    assert len(lab.docker.pushed) == 2


async def test_tag_that_is_up_to_date_again_is_not_stale(lab: Lab) -> None:
    """Otherwise it could not be pulled when Docker stops the next time."""
    built = lab.docker.build(APP, "v1")
    lab.docker.push_error = "disk full"
    assert (await lab.pull()).status_code == 403
    lab.registry.put("app", "dev", MANIFEST_TYPE, built.manifest)
    assert (await lab.pull()).headers["Autoregistry"] == "up-to-date"
    lab.docker.go_away()

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_node_is_not_redirected_to_the_backend_for_a_lost_blob(
    idle_lab: Lab,
) -> None:
    """The proxy would not notice that it is lost."""
    lab = idle_lab
    lab.settings = replace(lab.settings, container="autoregistry")
    lab.docker.build(APP, "v1")
    async with lab.serving():
        await lab.pull()
        lost = await lab.client.get(f"/v2/app/blobs/{LOST}", headers={"Host": "autoregistry:5000"})
        response = await lab.pull()

    assert lost.status_code == 404
    assert response.headers["Autoregistry"] == "pushed"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_read_of_a_layer_is_retried_while_its_link_is_written(lab: Lab, method: str) -> None:
    """`docker push` gives up over a 500, and the proxy may have Docker push the same layer at that time."""
    layer = b"layer"
    lab.registry.blobs[digest_of(layer)] = layer
    lab.registry.unreadable = 2

    response = await lab.client.request(method, f"/v2/app/blobs/{digest_of(layer)}")

    assert (response.status_code, response.headers["Content-Length"]) == (200, "5")


async def test_own_push_is_repeated_while_the_link_of_its_layer_is_written(lab: Lab) -> None:
    lab.docker.build(f"{NAME}/app:dev", "v1")
    lab.registry.unknown_parts = 2

    assert (await lab.pull()).headers["Autoregistry"] == "pushed"


@pytest.mark.parametrize(
    ("agent", "reference"),
    [("docker/29.0", "dev"), ("docker/29.0", "digest"), (user_agent("1"), "digest")],
)
async def test_manifest_is_sent_again_while_the_link_of_its_layer_is_written(
    lab: Lab, agent: str, reference: str
) -> None:
    image = FakeImage("v1")
    lab.registry.unknown_parts = 2

    response = await lab.client.put(
        f"/v2/app/manifests/{reference.replace('digest', image.digest)}",
        content=image.manifest,
        headers={"Content-Type": MANIFEST_TYPE, "User-Agent": agent},
    )

    assert (response.status_code, response.headers["Docker-Content-Digest"]) == (201, image.digest)
    assert lab.registry.manifests["app", image.digest] == (MANIFEST_TYPE, image.manifest)


async def test_manifest_of_a_missing_layer_gets_the_registrys_error(
    lab: Lab,
) -> None:
    lab.registry.unknown_parts = 100

    response = await lab.client.put(
        "/v2/app/manifests/dev",
        content=FakeImage("v1").manifest,
        headers={"Content-Type": MANIFEST_TYPE},
    )

    assert (response.status_code, response.json()["errors"][0]["code"]) == (
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )


async def test_failed_manual_push_does_not_affect_a_push_under_way(lab: Lab) -> None:
    lab.docker.may_push.clear()
    lab.docker.build(APP, "v1")
    pull = asyncio.create_task(lab.pull())
    await until(lab.docker.in_push.is_set)

    lab.registry.refuse_puts = "UNKNOWN"
    refused = await lab.client.put("/v2/app/manifests/dev", content=b"{}")
    lab.registry.refuse_puts = ""
    lab.docker.may_push.set()

    assert refused.status_code == 500
    assert (await pull).headers["Autoregistry"] == "pushed"
    assert len(lab.docker.pushed) == 1


async def test_other_failures_are_not_retried(lab: Lab) -> None:
    lab.registry.refuse_puts = "UNKNOWN"
    await lab.client.put("/v2/app/manifests/dev", content=b"{}")
    await lab.client.post("/v2/app/blobs/uploads/")

    assert [method for method, _ in lab.registry.asked] == ["PUT", "POST"]


async def test_last_of_several_quick_builds_is_reported(lab: Lab) -> None:
    lab.docker.push_seconds = 0.1
    builds = iter(["v2", "v3", "v4"])

    def build() -> None:
        if content := next(builds, ""):
            lab.docker.build(APP, content)

    lab.docker.before_push_ends = build
    lab.docker.build(APP, "v1")
    await lab.pull()
    last = await lab.pull()

    reported = [e.digest for e in lab.events if isinstance(e, PushFinished)]
    assert reported[-1] == last.headers["Docker-Content-Digest"] == FakeImage("v4").digest


async def test_push_that_arrived_but_seemed_to_fail_is_reported_later(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")

    def stop() -> None:
        lab.docker.error = DockerUnreachable("too busy")

    lab.docker.before_push_ends = stop
    await lab.pull()
    lab.docker.error = None
    assert not [e for e in lab.events if isinstance(e, PushFinished)]

    await lab.pull()

    assert [e.digest for e in lab.events if isinstance(e, PushFinished)] == [built.digest]


async def test_failed_push_is_not_repeated_without_a_reason(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.fails_once.add(APP)

    assert (await lab.pull()).status_code == 403
    assert len(lab.docker.pushed) == 1


async def test_state_of_a_tag_is_dropped_when_nothing_uses_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.pull.pushes.FAILURE_SECONDS", 0)
    lab.docker.build(APP, "v1")
    await lab.pull()
    await lab.client.put("/v2/app/manifests/manual", content=b"{}")
    lab.docker.build(APP, "v2")
    lab.docker.push_error = "disk full"
    await lab.pull()

    await until(lambda: not lab.proxy.core.pushes._tags)


async def test_upload_error_belongs_to_one_push_of_a_repository(lab: Lab) -> None:
    for tag in ("one", "two"):
        lab.docker.build(f"{NAME}/app:{tag}", "v1")
    lab.docker.may_push.clear()
    pulls = [asyncio.create_task(lab.pull("app:one"))]
    await until(lambda: len(lab.docker.pushed) == 1)
    pulls.append(asyncio.create_task(lab.pull("app:two")))
    await until(lambda: len(lab.docker.pushed) == 2)
    lab.proxy.core.pushes.upload_failed("1", "no space left on device")
    lab.docker.push_errors = {f"{NAME}/app:one": "received unexpected HTTP status: 500"}
    lab.docker.may_push.set()
    one, two = await asyncio.gather(*pulls)

    assert "no space left on device" in one.reason_phrase
    assert two.headers["Autoregistry"] == "pushed"
