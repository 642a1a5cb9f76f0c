"""What the registry cannot read or has lost, a push brings anew; Docker going away is never taken for agreement."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from autoregistry.decision import LocalImage
from autoregistry.errors import DockerUnreachable
from autoregistry.events import PushFinished
from tests.fakes.docker import MANIFEST_TYPE, USER_AGENT, FakeDocker, FakeImage
from tests.fakes.registry import digest_of
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
LOST = f"sha256:{'a' * 64}"


class AwayFromSecondQuestion(FakeDocker):
    """A Docker that ends just after it said that it has another image."""

    def inspect(self, reference: str, *, children: bool = False) -> LocalImage | None:
        if reference == APP and APP in self.inspected:
            raise DockerUnreachable("Docker does not answer")
        return super().inspect(reference, children=children)


async def test_docker_gone_before_its_push_began_is_a_refusal_and_never_the_old_image(
    idle_lab: Lab,
) -> None:
    lab = idle_lab
    lab.docker = AwayFromSecondQuestion(lab.docker.store)
    lab.docker.build(APP, "v2")
    lab.registry.put("app", "dev", MANIFEST_TYPE, b'{"config": {"digest": "sha256:old"}}')
    async with lab.serving():
        refused, again = await lab.pull(), await lab.pull()

    assert (refused.status_code, refused.headers["Autoregistry"]) == (403, "push-failed")
    assert "became unreachable" in refused.reason_phrase
    assert again.status_code == 403


@pytest.mark.parametrize("agent", ["docker/28.5.2", "containerd/2.3.7"])
async def test_a_push_is_told_that_the_unreadable_is_not_there(lab: Lab, agent: str) -> None:
    """The containerd store's first question; any answer but 200 and 404 would end that push."""
    lab.registry.unreadable = 10

    answer = await lab.client.head(
        "/v2/app/manifests/dev", headers={"Accept": f"{MANIFEST_TYPE}, */*", "User-Agent": agent}
    )

    assert (answer.status_code, answer.headers["Autoregistry"]) == (404, "own-push")


@pytest.mark.parametrize("road", ["blobs", "manifests"])
async def test_a_part_that_the_registry_has_lost_has_docker_push_again(lab: Lab, road: str) -> None:
    built = lab.docker.build(APP, "v1")
    await lab.pull()
    if road == "blobs":
        assert (await lab.client.get(f"/v2/app/blobs/{LOST}")).status_code == 404
        answer = await lab.pull()
    else:
        del lab.registry.manifests["app", built.digest]
        answer = await lab.pull(f"app@{built.digest}")

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "pushed")
    assert (await lab.pull()).headers["Autoregistry"] == "up-to-date"
    assert len(lab.docker.pushed) == 2


async def test_a_tag_seen_in_step_is_stale_no_more(lab: Lab) -> None:
    """Otherwise Docker's next absence would have it refused."""
    built = lab.docker.build(APP, "v1")
    lab.docker.push_error = "disk full"
    assert (await lab.pull()).status_code == 403
    lab.registry.put("app", "dev", MANIFEST_TYPE, built.manifest)
    assert (await lab.pull()).headers["Autoregistry"] == "up-to-date"
    lab.docker.go_away()

    answer = await lab.pull()

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_a_node_is_not_sent_to_the_backend_for_what_the_backend_has_lost(
    idle_lab: Lab,
) -> None:
    """There nobody would learn of it."""
    lab = idle_lab
    lab.settings = replace(lab.settings, container="autoregistry")
    lab.docker.build(APP, "v1")
    async with lab.serving():
        await lab.pull()
        lost = await lab.client.get(f"/v2/app/blobs/{LOST}", headers={"Host": "autoregistry:5000"})
        answer = await lab.pull()

    assert lost.status_code == 404
    assert answer.headers["Autoregistry"] == "pushed"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_layer_whose_link_is_being_written_is_asked_for_again(
    lab: Lab, method: str
) -> None:
    """`docker push` gives up over a 500, and we push what it pushes at the same time."""
    layer = b"layer"
    lab.registry.blobs[digest_of(layer)] = layer
    lab.registry.unreadable = 2

    answer = await lab.client.request(method, f"/v2/app/blobs/{digest_of(layer)}")

    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "5")


@pytest.mark.parametrize("reference", ["dev", "digest"])
@pytest.mark.parametrize("agent", ["docker/29.0", USER_AGENT])
async def test_a_manifest_that_names_a_layer_whose_link_is_being_written_is_sent_again(
    lab: Lab, agent: str, reference: str
) -> None:
    image = FakeImage("v1")
    lab.registry.unknown_parts = 2

    answer = await lab.client.put(
        f"/v2/app/manifests/{reference.replace('digest', image.digest)}",
        content=image.manifest,
        headers={"Content-Type": MANIFEST_TYPE, "User-Agent": agent},
    )

    assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, image.digest)
    assert lab.registry.manifests["app", image.digest] == (MANIFEST_TYPE, image.manifest)


async def test_a_manifest_that_names_what_is_not_there_is_refused_in_the_registrys_words(
    lab: Lab,
) -> None:
    lab.registry.unknown_parts = 100

    answer = await lab.client.put(
        "/v2/app/manifests/dev",
        content=FakeImage("v1").manifest,
        headers={"Content-Type": MANIFEST_TYPE},
    )

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (
        400,
        "MANIFEST_BLOB_UNKNOWN",
    )


async def test_a_push_by_hand_that_is_refused_does_not_disturb_ours(lab: Lab) -> None:
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


async def test_what_fails_for_another_reason_is_not_sent_again(lab: Lab) -> None:
    lab.registry.refuse_puts = "UNKNOWN"
    await lab.client.put("/v2/app/manifests/dev", content=b"{}")
    await lab.client.post("/v2/app/blobs/uploads/")

    assert [method for method, _ in lab.registry.asked] == ["PUT", "POST"]


async def test_builds_faster_than_docker_pushes_end_with_the_last_one_told(lab: Lab) -> None:
    lab.docker.push_seconds = 0.1
    builds = iter(["v2", "v3", "v4"])

    def build() -> None:
        if content := next(builds, ""):
            lab.docker.build(APP, content)

    lab.docker.before_push_ends = build
    lab.docker.build(APP, "v1")
    await lab.pull()
    last = await lab.pull()

    told = [e.digest for e in lab.events if isinstance(e, PushFinished)]
    assert told[-1] == last.headers["Docker-Content-Digest"] == FakeImage("v4").digest


async def test_a_push_that_arrived_and_was_taken_for_failed_is_told_in_the_end(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")

    def away() -> None:
        lab.docker.error = DockerUnreachable("too busy")

    lab.docker.before_push_ends = away
    await lab.pull()
    lab.docker.error = None
    assert not [e for e in lab.events if isinstance(e, PushFinished)]

    await lab.pull()

    assert [e.digest for e in lab.events if isinstance(e, PushFinished)] == [built.digest]


async def test_a_push_that_fails_alone_is_not_made_again(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.fails_once.add(APP)

    assert (await lab.pull()).status_code == 403
    assert len(lab.docker.pushed) == 1
