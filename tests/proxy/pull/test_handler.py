"""The response to a client that requests a manifest, on both image stores."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable
from dataclasses import replace

import httpx
import pytest

from autoregistry.decision import LocalImage
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Answer, PullAnswered, PullSeen, PushFailed
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import NEWER_BUILD
from tests.fakes.docker import MANIFEST_TYPE, FakeImage
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"


async def _push_manually(lab: Lab, content: str) -> FakeImage:
    image = FakeImage(content)
    response = await lab.client.put(
        "/v2/app/manifests/dev",
        content=image.manifest,
        headers={"Content-Type": MANIFEST_TYPE, "User-Agent": "crane/0.22"},
    )
    assert response.status_code == 201
    return image


async def _pull_during_its_push(lab: Lab) -> asyncio.Task[httpx.Response]:
    """Start a pull of an image that was only built. Its push has begun and waits for `may_push`."""
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    pull = asyncio.create_task(lab.pull())
    await asyncio.to_thread(lab.docker.in_push.wait, 10)
    return pull


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_image_that_was_only_built_is_pushed_and_served(lab: Lab, method: str) -> None:
    built = lab.docker.build(APP, "v1")

    response = await lab.pull(method=method)

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")
    assert built.digest == response.headers["Docker-Content-Digest"]
    if method == "GET":
        assert built.manifest == response.content


async def test_current_image_costs_one_request_to_the_backend_and_no_push(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    await lab.pull()  # the classic store's config digest is known from here on
    before = len(lab.registry.asked)

    response = await lab.pull()

    assert response.headers["Autoregistry"] == "up-to-date"
    assert len(lab.registry.asked) == before + 1
    assert lab.registry.uploads_of("dev") == 1


async def test_rebuilt_tag_is_pushed_again(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")

    response = await lab.pull()

    assert response.headers["Autoregistry"] == "pushed"
    assert response.headers["Docker-Content-Digest"] == rebuilt.digest


async def test_registry_answers_for_an_image_that_docker_lacks(lab: Lab) -> None:
    digest = lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("theirs").manifest)

    present, absent = await lab.pull(), await lab.pull("nothing:here")

    assert (present.status_code, present.headers["Autoregistry"]) == (200, "only-in-registry")
    assert digest == present.headers["Docker-Content-Digest"]
    assert absent.status_code == 404


async def test_two_hundred_pulls_at_once_cause_one_push_and_get_the_new_image(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.push_seconds = 0.2

    responses = await asyncio.gather(*(lab.pull() for _ in range(200)))

    assert {rebuilt.digest} == {a.headers["Docker-Content-Digest"] for a in responses}
    assert len(lab.docker.pushed) == 2


async def test_twenty_tags_at_once_are_pushed_by_four_threads(lab: Lab) -> None:
    built = {f"t{n}": lab.docker.build(f"{NAME}/app:t{n}", f"v{n}") for n in range(20)}
    lab.docker.push_seconds = 0.1

    responses = await asyncio.gather(*(lab.pull(f"app:{tag}") for tag in built))

    assert [i.digest for i in built.values()] == [
        a.headers["Docker-Content-Digest"] for a in responses
    ]


async def test_all_clients_get_the_newer_image_after_a_rebuild_during_a_push(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    first = asyncio.create_task(lab.pull())
    await asyncio.to_thread(lab.docker.in_push.wait)
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.may_push.set()

    second = await lab.pull()

    assert rebuilt.digest == second.headers["Docker-Content-Digest"]
    assert rebuilt.digest == (await first).headers["Docker-Content-Digest"]


async def test_client_gets_a_build_that_is_not_older_than_its_request_however_often_it_changes(
    lab: Lab,
) -> None:
    """A user who rebuilds faster than Docker pushes: the newest build may be one that no client has asked for yet."""
    lab.docker.build(APP, "v0")

    def rebuild() -> None:
        lab.docker.build(APP, f"v{len(lab.docker.pushed)}")

    lab.docker.before_push_ends = rebuild

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")
    assert lab.proxy.core.journal.record(Image("app", "dev")).stale_because == NEWER_BUILD


async def test_push_that_a_build_makes_fail_is_repeated_and_no_client_gets_an_error(
    lab: Lab,
) -> None:
    """The containerd store removes the content of a replaced image, also while it is pushed."""
    lab.docker.build(APP, "v0")
    lab.docker.push_error = "content digest sha256:0123: not found"

    def rebuild() -> None:
        number = len(lab.docker.pushed)
        if number == 10:
            lab.docker.push_error = ""
        else:
            lab.docker.build(APP, f"v{number}")

    lab.docker.before_push = rebuild

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")
    assert response.headers["Docker-Content-Digest"] == FakeImage("v9").digest
    assert not any(isinstance(event, PushFailed) for event in lab.events)


async def test_missing_content_of_an_unchanged_image_is_tried_once_more_and_then_explained(
    lab: Lab,
) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "content digest sha256:0123: not found"

    response = await lab.pull()

    assert response.status_code == 403
    assert "build it again" in response.reason_phrase
    assert len(lab.docker.pushed) == 2


async def test_failed_push_is_403_with_the_cause_and_never_the_old_image(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.build(APP, "v2")
    lab.docker.push_error = "no space left\non device"

    response = await lab.pull(method="GET")

    expected = "Docker's newer app:dev could not be pushed: no space left on device"
    assert (403, expected) == (response.status_code, response.reason_phrase)
    assert json.loads(response.content)["errors"][0] == {
        "code": "DENIED",
        "message": expected,
        "detail": None,
    }


async def test_stale_tag_stays_stale_while_docker_is_away_and_recovers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.pull.pushes.FAILURE_SECONDS", 0)
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.push_error = "disk full"
    await lab.pull()
    lab.docker.error = DockerUnreachable("gone")

    away = await lab.pull()
    lab.docker.error, lab.docker.push_error = None, ""
    back = await lab.pull()

    assert away.status_code == 403
    assert "disk full" in away.reason_phrase
    assert (200, rebuilt.digest) == (back.status_code, back.headers["Docker-Content-Digest"])


async def test_without_docker_the_proxy_is_a_plain_registry_and_reports_it(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.error = DockerUnreachable("gone")

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_manual_push_is_respected_after_a_restart(idle_lab: Lab) -> None:
    lab = idle_lab
    async with lab.serving():
        lab.docker.build(APP, "v1")
        await lab.pull()
        theirs = await _push_manually(lab, "theirs")
        before = await lab.pull()
    async with lab.serving():
        after = await lab.pull()
        rebuilt = lab.docker.build(APP, "v2")
        changed = await lab.pull()

    for response in (before, after):
        assert response.headers["Autoregistry"] == "pushed-by-hand"
        assert theirs.digest == response.headers["Docker-Content-Digest"]
    assert rebuilt.digest == changed.headers["Docker-Content-Digest"]


async def test_manual_push_while_docker_is_away_is_respected(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.error = DockerUnreachable("gone")
    theirs = await _push_manually(lab, "theirs")
    lab.docker.error = None

    response = await lab.pull()

    assert response.headers["Autoregistry"] == "pushed-by-hand"
    assert theirs.digest == response.headers["Docker-Content-Digest"]


async def test_manual_push_during_our_push_is_not_undone(lab: Lab) -> None:
    pull = await _pull_during_its_push(lab)
    theirs = await _push_manually(lab, "theirs")
    lab.docker.may_push.set()
    first, second = await pull, await lab.pull()

    assert theirs.digest == first.headers["Docker-Content-Digest"]
    assert theirs.digest == second.headers["Docker-Content-Digest"]
    assert second.headers["Autoregistry"] == "pushed-by-hand"
    assert lab.docker.pushed == [(APP, "v1")]


@pytest.mark.parametrize("moment", [0.05, 0.15, 0.25, 0.35, 0.45, 0.55])
async def test_manual_push_during_our_comparison_is_not_undone(lab: Lab, moment: float) -> None:
    """Docker needs a fifth of a second for a query, so that the manual push comes between query and push."""
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    lab.docker.build(APP, "v1")
    lab.docker.inspect_seconds = 0.2
    pull = asyncio.create_task(lab.pull())
    await asyncio.sleep(moment)
    theirs = await _push_manually(lab, "theirs")
    await pull

    response = await lab.pull()

    assert theirs.digest == response.headers["Docker-Content-Digest"]
    assert response.headers["Autoregistry"] == "pushed-by-hand"


async def test_manually_pushed_tag_that_is_unreadable_is_not_missing(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    theirs = await _push_manually(lab, "theirs")
    lab.registry.unreadable = 1000
    refused = await lab.pull()
    lab.registry.unreadable = 0

    response = await lab.pull()

    assert refused.status_code == 502
    assert "another client pushed" in refused.reason_phrase
    assert theirs.digest == response.headers["Docker-Content-Digest"]


async def test_unreadable_tag_hides_no_other_tag(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.build(f"{NAME}/other:dev", "v1")
    await lab.pull()
    await lab.pull("other:dev")
    await _push_manually(lab, "theirs")
    lab.registry.broken.add(("app", "dev"))

    status = (await lab.client.get("/_autoregistry/status", timeout=20)).json()
    one = (await lab.client.get("/_autoregistry/status?image=app:dev", timeout=20)).json()

    states = {row["image"]: row["state"] for row in status["images"]}
    assert states == {"app:dev": "unreadable", "other:dev": "in-step"}
    assert (
        one["images"][0]["because"]
        == "the registry cannot read this tag, which another client pushed"
    )

    built = lab.docker.build(
        APP, "v2"
    )  # Docker has another image than at the time of the manual push
    lab.docker.before_push_ends = lab.registry.broken.clear
    assert built.digest == (await lab.pull()).headers["Docker-Content-Digest"]


async def test_manual_push_of_dockers_own_image_does_not_count_as_manual(lab: Lab) -> None:
    """`docker build && docker push`: the next pull restores what the registry has lost."""
    lab.docker.build(APP, "v1")
    await _push_manually(lab, "v1")
    lab.registry.broken.add(("app", "dev"))
    lab.docker.before_push_ends = lab.registry.broken.clear

    response = await lab.pull()

    expected = (200, "pushed") if lab.docker.store == "containerd" else (502, "backend-unreachable")
    assert (response.status_code, response.headers["Autoregistry"]) == expected


async def test_one_push_at_a_time_sets_a_tag_and_the_later_manual_push_stands(lab: Lab) -> None:
    """The manual push comes while the registry, which is slow, is busy with ours."""
    lab.registry.delay = 0.3
    lab.docker.build(APP, "v1")
    pull = asyncio.create_task(lab.pull())
    await until(lambda: lab.registry.uploads_of("dev") == 1)
    theirs = await _push_manually(lab, "theirs")
    await pull

    response = await lab.pull()

    assert theirs.digest == response.headers["Docker-Content-Digest"]
    assert response.headers["Autoregistry"] == "pushed-by-hand"
    assert lab.registry.most_at_once == 1


async def test_failure_after_a_manual_push_does_not_make_its_tag_stale(lab: Lab) -> None:
    pull = await _pull_during_its_push(lab)
    theirs = await _push_manually(lab, "theirs")
    lab.docker.error = DockerUnreachable("gone")
    lab.docker.may_push.set()
    await pull

    response = await lab.pull()

    assert response.headers["Autoregistry"] == "docker-unreachable"
    assert theirs.digest == response.headers["Docker-Content-Digest"]


async def test_failed_manual_push_changes_nothing_in_the_journal(lab: Lab) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    pull = await _pull_during_its_push(lab)
    lab.registry.refuse_puts = "UNKNOWN"
    failed = await lab.client.put(
        "/v2/app/manifests/dev", content=b"{}", headers={"User-Agent": "crane/0.22"}
    )
    lab.docker.error = DockerUnreachable("gone")
    lab.docker.may_push.set()
    await pull

    assert failed.status_code == 500
    assert (await lab.pull()).status_code == 403


async def test_digest_of_an_unreadable_tag_is_pushed_by_another_tag(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")
    lab.docker.build(f"{NAME}/app:other", "v1")
    await lab.pull()
    await _push_manually(lab, "theirs")
    lab.registry.broken.add(("app", "dev"))
    lab.registry.manifests.pop(("app", built.digest))
    lab.registry.manifests.pop(("app", "other"), None)

    response = await lab.pull(f"app@{built.digest}")

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")


async def test_long_queries_do_not_delay_short_ones(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    built = lab.docker.build(APP, "v1")
    may_continue = threading.Event()
    monkeypatch.setattr(lab.docker, "digests", lambda _: may_continue.wait(20) and {})
    asking = [asyncio.create_task(lab.pull(f"app@sha256:{n:064x}")) for n in range(20)]
    await asyncio.sleep(0.2)

    response = await lab.pull()

    may_continue.set()
    await asyncio.gather(*asking)
    assert built.digest == response.headers["Docker-Content-Digest"]


@pytest.fixture
def may_list(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Docker's lists of digests wait for this event."""
    event, digests = threading.Event(), lab.docker.digests

    def slow_digests(repositories: Iterable[str]) -> dict[str, set[str]]:
        event.wait(20)
        return digests(repositories)

    monkeypatch.setattr(lab.docker, "digests", slow_digests)
    return event


async def test_clients_that_ask_for_digests_of_one_repository_share_dockers_list(
    lab: Lab, may_list: threading.Event
) -> None:
    """Each of them had Docker list its images twice, and two lists ran at a time (review 17)."""
    asking = [asyncio.create_task(lab.pull(f"app@sha256:{n % 2:064x}")) for n in range(50)]
    await until(lambda: sum(isinstance(e, PullSeen) for e in lab.events) == 50)
    await asyncio.sleep(0.3)
    may_list.set()

    responses = await asyncio.gather(*asking)

    assert {r.headers["Autoregistry"] for r in responses} == {"only-in-registry"}
    assert lab.docker.listed <= 2


async def test_list_is_shared_by_the_queries_that_arrived_before_it_began(
    lab: Lab, may_list: threading.Event
) -> None:
    docker = AsyncDocker(lab.docker, RegistryNames(NAME, ("127.0.0.1:5000",)), lambda *_: None)
    first = asyncio.create_task(docker.tags_with("app", "sha256:0"))
    await asyncio.sleep(0.2)
    built = lab.docker.build(APP, "v1")
    lab.docker.build("127.0.0.1:5000/app:other", "v1")
    later = [asyncio.create_task(docker.tags_with("app", built.digest)) for _ in range(300)]
    await asyncio.sleep(0.1)
    may_list.set()

    assert await first == []
    expected = [Image("app", "dev"), Image("app", "other")]
    assert await asyncio.gather(*later) == [expected] * 300
    assert lab.docker.listed == 2
    docker.close()


async def test_manual_push_while_docker_was_away_and_had_no_image_ends_with_the_next_build(
    lab: Lab,
) -> None:
    lab.docker.error = DockerUnreachable("gone")
    await _push_manually(lab, "theirs")
    lab.docker.error = None
    assert (await lab.pull()).headers["Autoregistry"] == "only-in-registry"

    built = lab.docker.build(APP, "v1")

    assert built.digest == (await lab.pull()).headers["Docker-Content-Digest"]


async def test_tag_is_no_longer_stale_once_docker_has_deleted_its_image(lab: Lab) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "disk full"
    assert (await lab.pull()).status_code == 403
    del lab.docker.images[APP]
    assert (await lab.pull()).headers["Autoregistry"] == "only-in-registry"
    lab.docker.error = DockerUnreachable("gone")

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_docker_that_is_too_busy_to_list_an_indexs_children_is_reachable(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    built = lab.docker.build(APP, "v1")
    inspect = lab.docker.inspect

    def busy(reference: str, *, children: bool = False) -> LocalImage | None:
        if children:
            raise DockerUnreachable("timed out")
        found = inspect(reference)
        return replace(found, is_index=True) if found else None

    monkeypatch.setattr(lab.docker, "inspect", busy)
    response = await lab.pull()

    if lab.docker.store == "containerd":  # the other has no indexes
        assert response.headers["Autoregistry"] == "pushed"
        assert built.digest == response.headers["Docker-Content-Digest"]


async def test_newer_build_that_is_pushed_manually_during_our_push_stands(lab: Lab) -> None:
    """Although the push of the newer build waits for ours."""
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    pulls = [asyncio.create_task(lab.pull())]
    await asyncio.to_thread(lab.docker.in_push.wait, 10)
    newer = lab.docker.build(APP, "v2")
    pulls.append(asyncio.create_task(lab.pull()))
    await until(lambda: len(lab.docker.inspected) > 1)
    await _push_manually(lab, "v2")
    lab.docker.may_push.set()
    responses = [*await asyncio.gather(*pulls), await lab.pull()]

    assert {response.headers["Docker-Content-Digest"] for response in responses} == {newer.digest}
    assert lab.registry.manifests["app", "dev"][1] == newer.manifest


async def test_same_image_that_is_pushed_manually_during_our_push_is_up_to_date(lab: Lab) -> None:
    """As a script does that builds and pushes."""
    pull = await _pull_during_its_push(lab)
    await _push_manually(lab, "v1")
    lab.docker.may_push.set()
    first, second = await pull, await lab.pull()

    assert first.status_code == 200
    assert second.headers["Autoregistry"] == "up-to-date"
    assert lab.docker.pushed == [(APP, "v1")]


async def test_manual_push_ends_the_staleness_of_its_tag(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "disk full"
    assert (await lab.pull()).status_code == 403
    await _push_manually(lab, "theirs")
    lab.docker.error = DockerUnreachable("gone")

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_push_longer_than_patience_is_408_and_the_next_pull_joins_it(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, patience=0.2)
    async with lab.serving():
        built = lab.docker.build(APP, "v1")
        lab.docker.may_push.clear()

        early = [await lab.pull() for _ in range(2)]
        lab.docker.may_push.set()
        late = await lab.pull(agent="crane")

    reported = [(response.status_code, response.headers["Autoregistry"]) for response in early]
    assert reported == [(408, "pushing")] * 2
    assert built.digest == late.headers["Docker-Content-Digest"]
    assert len(lab.docker.pushed) == 1


async def test_client_without_a_limit_of_its_own_waits(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, patience=0.1)
    async with lab.serving():
        lab.docker.build(APP, "v1")
        lab.docker.push_seconds = 0.4

        response = await lab.pull(
            agent="docker/20.10.24 go/go1.19 UpstreamClient(Docker-Client/20.10)"
        )

    assert response.status_code == 200


async def test_client_that_disconnects_does_not_end_the_push(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    pull = asyncio.create_task(lab.pull())
    await asyncio.to_thread(lab.docker.in_push.wait)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    lab.docker.may_push.set()

    response = await lab.pull()

    assert response.status_code == 200
    assert len(lab.docker.pushed) == 1


async def test_docker_is_not_queried_for_a_digest_that_the_backend_has(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.inspected.clear()

    response = await lab.pull(f"app@{built.digest}")

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "up-to-date")
    assert lab.docker.inspected == []


async def test_digest_that_only_docker_has_is_pushed_by_one_of_its_tags(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")

    response = await lab.pull(f"app@{built.digest}")

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "pushed")
    assert built.digest == response.headers["Docker-Content-Digest"]


async def test_existence_check_of_another_pusher_is_passed_through(lab: Lab) -> None:
    lab.docker.build(APP, "v1")

    response = await lab.client.head(
        "/v2/app/manifests/dev", headers={"Accept": f"{MANIFEST_TYPE}, */*"}
    )

    assert (response.status_code, response.headers["Autoregistry"]) == (404, "own-push")
    assert lab.docker.pushed == []


async def test_client_that_accepts_fewer_types_does_not_make_an_image_missing(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()

    response = await lab.client.get("/v2/app/manifests/dev", headers={"Accept": "application/json"})

    assert (response.status_code, response.headers["Autoregistry"]) == (404, "up-to-date")
    assert len(lab.docker.pushed) == 1


async def test_unreachable_backend_is_502_with_its_url_and_recovers(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    port = lab.registry.port
    await lab.registry.stop()

    away = await lab.pull()
    await lab.registry.start(port)
    back = await lab.pull()

    assert away.status_code == 502
    assert f"http://127.0.0.1:{port}" in away.reason_phrase
    assert back.status_code == 200


async def test_docker_that_hangs_counts_as_unreachable_after_a_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    monkeypatch.setattr("autoregistry.proxy.pull.docker.DOCKER_CALL_SECONDS", 0.1)
    lab.docker.inspect_seconds = 0.5

    response = await lab.pull()

    assert (response.status_code, response.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_image_under_the_alias_is_found(lab: Lab) -> None:
    built = lab.docker.build("127.0.0.1:5000/app:dev", "v1")

    response = await lab.pull()

    assert built.digest == response.headers["Docker-Content-Digest"]


async def test_every_pull_is_reported_with_its_verdict(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()

    reported = [
        e for e in lab.events if isinstance(e, PullAnswered) and e.answer is not Answer.OWN_PUSH
    ]

    assert [str(e.manifest) for e in reported] == ["app:dev"]
    assert reported[0].sentence.startswith(
        "Docker's image is missing from the registry: pushed 0.0 MB in"
    )


async def test_foreign_namespace_or_host_is_refused_without_a_query_to_docker(lab: Lab) -> None:
    lab.docker.build(APP, "v1")

    foreign_ns = await lab.client.get("/v2/app/manifests/dev?ns=docker.io")
    foreign_host = await lab.client.get("/v2/app/manifests/dev", headers={"Host": "evil.example"})
    no_registry = await lab.client.get("/index.php")

    assert [a.status_code for a in (foreign_ns, foreign_host, no_registry)] == [404, 421, 400]
    assert lab.docker.inspected == []


async def test_health_reports_docker_and_the_backend(lab: Lab) -> None:
    well = (await lab.client.get("/_autoregistry/health")).json()
    lab.docker.error = DockerUnreachable("gone")
    ill = await lab.client.get("/_autoregistry/health")

    assert (well["docker"], well["backend"]) == ("ok", "ok")
    assert (ill.status_code, ill.json()["docker"]) == (200, "does not answer")


async def test_node_on_dockers_network_is_redirected_to_the_backend_for_blobs(
    idle_lab: Lab,
) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, container="autoregistry")
    blob = "sha256:" + "a" * 64
    lab.registry.blobs[blob] = b"layer"
    async with lab.serving():
        node = await lab.client.get(
            f"/v2/app/blobs/{blob}?ns=localhost%3A5000", headers={"Host": "autoregistry:5000"}
        )
        other = await lab.client.get(f"/v2/app/blobs/{blob}")

    assert node.status_code == 307
    assert f"{lab.registry.url}/v2/app/blobs/{blob}?ns=localhost%3A5000" == node.headers["Location"]
    assert (other.status_code, other.content) == (200, b"layer")


async def test_http_proxy_of_the_environment_is_ignored(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    response: httpx.Response = await lab.pull()

    assert response.status_code == 404


async def test_builder_that_keeps_its_images_is_named_for_a_missing_image(
    lab: Lab,
) -> None:
    lab.docker.buildx = ["multi"]
    await lab.pull()

    reported = [e.sentence for e in lab.events if isinstance(e, PullAnswered)]
    assert reported[0].endswith("builder multi keeps its images: docker buildx build --load")


@pytest.mark.parametrize("after_push", [False, True])
async def test_link_that_is_being_written_is_read_again(lab: Lab, after_push: bool) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    if after_push:
        rebuilt = lab.docker.build(APP, "v2")
        lab.docker.before_push_ends = lambda: setattr(lab.registry, "unreadable", 2)
    else:
        lab.registry.unreadable = 2

    response = await lab.pull()

    assert response.status_code == 200
    assert len(lab.docker.pushed) == (2 if after_push else 1)
    if after_push:
        assert rebuilt.digest == response.headers["Docker-Content-Digest"]


async def test_docker_that_answers_other_queries_is_reachable(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that waits behind others has not reached Docker yet: the old image must not be served."""
    lab.docker.build(APP, "v1")
    await lab.pull()
    built = lab.docker.build(APP, "v2")
    monkeypatch.setattr("autoregistry.proxy.pull.docker.DOCKER_CALL_SECONDS", 1.0)
    lab.docker.inspect_seconds = 0.05
    others = [asyncio.create_task(lab.pull(f"other{number}:dev")) for number in range(200)]
    await until(lambda: len(lab.docker.inspected) > 3)
    response = await lab.pull()
    await asyncio.gather(*others)

    assert built.digest == response.headers["Docker-Content-Digest"]


async def test_names_without_an_image_are_not_recorded(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    for number in range(5):
        await lab.pull(f"missing{number}:dev")
        await lab.client.post("/_autoregistry/push", json={"images": [f"missing{number}:dev"]})

    assert lab.proxy.core.journal.images == [Image("app", "dev")]
