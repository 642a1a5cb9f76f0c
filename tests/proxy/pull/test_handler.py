"""What a client that asks for a manifest gets (design: "One pull"), on both image stores."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import httpx
import pytest

from autoregistry.decision import LocalImage
from autoregistry.errors import DockerUnreachable
from autoregistry.events import Answer, PullAnswered
from autoregistry.names import Image
from tests.fakes.docker import MANIFEST_TYPE, FakeImage
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"


async def _hand_push(lab: Lab, content: str) -> FakeImage:
    image = FakeImage(content)
    answer = await lab.client.put(
        "/v2/app/manifests/dev",
        content=image.manifest,
        headers={"Content-Type": MANIFEST_TYPE, "User-Agent": "crane/0.22"},
    )
    assert answer.status_code == 201
    return image


async def _pull_in_its_push(lab: Lab) -> asyncio.Task[httpx.Response]:
    """A pull of what was only built, whose push has begun and waits for `may_push`."""
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    pull = asyncio.create_task(lab.pull())
    await asyncio.to_thread(lab.docker.in_push.wait, 10)
    return pull


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_what_was_only_built_is_pushed_and_answered(lab: Lab, method: str) -> None:
    built = lab.docker.build(APP, "v1")

    answer = await lab.pull(method=method)

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "pushed")
    assert built.digest == answer.headers["Docker-Content-Digest"]
    if method == "GET":
        assert built.manifest == answer.content


async def test_what_is_up_to_date_costs_one_request_to_the_backend_and_no_push(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    await lab.pull()  # the classic store's config digest is known from here on
    before = len(lab.registry.asked)

    answer = await lab.pull()

    assert answer.headers["Autoregistry"] == "up-to-date"
    assert len(lab.registry.asked) == before + 1
    assert lab.registry.uploads_of("dev") == 1


async def test_a_tag_whose_docker_image_changed_is_pushed_again(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")

    answer = await lab.pull()

    assert answer.headers["Autoregistry"] == "pushed"
    assert answer.headers["Docker-Content-Digest"] == rebuilt.digest


async def test_what_docker_does_not_have_is_answered_by_the_registry(lab: Lab) -> None:
    digest = lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("theirs").manifest)

    present, absent = await lab.pull(), await lab.pull("nothing:here")

    assert (present.status_code, present.headers["Autoregistry"]) == (200, "only-in-registry")
    assert digest == present.headers["Docker-Content-Digest"]
    assert absent.status_code == 404


async def test_two_hundred_at_once_cause_one_push_and_all_get_the_new_image(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.push_seconds = 0.2

    answers = await asyncio.gather(*(lab.pull() for _ in range(200)))

    assert {rebuilt.digest} == {a.headers["Docker-Content-Digest"] for a in answers}
    assert len(lab.docker.pushed) == 2


async def test_twenty_tags_at_once_go_through_four_push_threads(lab: Lab) -> None:
    built = {f"t{n}": lab.docker.build(f"{NAME}/app:t{n}", f"v{n}") for n in range(20)}
    lab.docker.push_seconds = 0.1

    answers = await asyncio.gather(*(lab.pull(f"app:{tag}") for tag in built))

    assert [i.digest for i in built.values()] == [
        a.headers["Docker-Content-Digest"] for a in answers
    ]


async def test_rebuilt_during_a_push_everybody_gets_the_newer_image(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    first = asyncio.create_task(lab.pull())
    await asyncio.to_thread(lab.docker.in_push.wait)
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.may_push.set()

    second = await lab.pull()

    assert rebuilt.digest == second.headers["Docker-Content-Digest"]
    assert rebuilt.digest == (await first).headers["Docker-Content-Digest"]


async def test_an_image_that_never_stops_changing_ends_in_a_reason(lab: Lab) -> None:
    lab.docker.build(APP, "v0")

    def rebuild() -> None:
        lab.docker.build(APP, f"v{len(lab.docker.pushed)}")

    lab.docker.before_push_ends = rebuild

    answer = await lab.pull()

    assert (answer.status_code, answer.headers["Autoregistry"]) == (403, "push-failed")
    assert "kept changing" in answer.reason_phrase


async def test_a_push_that_fails_is_403_with_the_cause_and_never_the_old_image(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.build(APP, "v2")
    lab.docker.push_error = "no space left\non device"

    answer = await lab.pull(method="GET")

    expected = "Docker's newer app:dev could not be pushed: no space left on device"
    assert (403, expected) == (answer.status_code, answer.reason_phrase)
    assert json.loads(answer.content)["errors"][0] == {
        "code": "DENIED",
        "message": expected,
        "detail": None,
    }


async def test_what_was_stale_stays_so_while_docker_is_away_and_mends_itself(
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


async def test_without_docker_the_proxy_is_a_plain_registry_and_says_so(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.error = DockerUnreachable("gone")

    answer = await lab.pull()

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_a_push_by_hand_is_respected_also_after_a_restart(idle_lab: Lab) -> None:
    lab = idle_lab
    async with lab.serving():
        lab.docker.build(APP, "v1")
        await lab.pull()
        theirs = await _hand_push(lab, "theirs")
        before = await lab.pull()
    async with lab.serving():
        after = await lab.pull()
        rebuilt = lab.docker.build(APP, "v2")
        changed = await lab.pull()

    for answer in (before, after):
        assert answer.headers["Autoregistry"] == "pushed-by-hand"
        assert theirs.digest == answer.headers["Docker-Content-Digest"]
    assert rebuilt.digest == changed.headers["Docker-Content-Digest"]


async def test_a_push_by_hand_while_docker_is_away_is_respected_too(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.error = DockerUnreachable("gone")
    theirs = await _hand_push(lab, "theirs")
    lab.docker.error = None

    answer = await lab.pull()

    assert answer.headers["Autoregistry"] == "pushed-by-hand"
    assert theirs.digest == answer.headers["Docker-Content-Digest"]


async def test_a_push_by_hand_in_the_middle_of_ours_is_not_undone(lab: Lab) -> None:
    pull = await _pull_in_its_push(lab)
    theirs = await _hand_push(lab, "theirs")
    lab.docker.may_push.set()
    first, second = await pull, await lab.pull()

    assert theirs.digest == first.headers["Docker-Content-Digest"]
    assert theirs.digest == second.headers["Docker-Content-Digest"]
    assert second.headers["Autoregistry"] == "pushed-by-hand"
    assert lab.docker.pushed == [(APP, "v1")]


@pytest.mark.parametrize("moment", [0.05, 0.15, 0.25, 0.35, 0.45, 0.55])
async def test_a_push_by_hand_while_ours_is_weighed_is_not_undone(lab: Lab, moment: float) -> None:
    """Docker takes a fifth of a second for an answer: the other's push comes between question and push."""
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    lab.docker.build(APP, "v1")
    lab.docker.inspect_seconds = 0.2
    pull = asyncio.create_task(lab.pull())
    await asyncio.sleep(moment)
    theirs = await _hand_push(lab, "theirs")
    await pull

    answer = await lab.pull()

    assert theirs.digest == answer.headers["Docker-Content-Digest"]
    assert answer.headers["Autoregistry"] == "pushed-by-hand"


async def test_what_was_pushed_by_hand_and_cannot_be_read_is_not_missing(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    theirs = await _hand_push(lab, "theirs")
    lab.registry.unreadable = 1000
    refused = await lab.pull()
    lab.registry.unreadable = 0

    answer = await lab.pull()

    assert refused.status_code == 502
    assert "pushed manually" in refused.reason_phrase
    assert theirs.digest == answer.headers["Docker-Content-Digest"]


async def test_one_tag_that_cannot_be_read_hides_no_other(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.build(f"{NAME}/other:dev", "v1")
    await lab.pull()
    await lab.pull("other:dev")
    await _hand_push(lab, "theirs")
    lab.registry.broken.add(("app", "dev"))

    said = (await lab.client.get("/_autoregistry/status", timeout=20)).json()
    one = (await lab.client.get("/_autoregistry/status?image=app:dev", timeout=20)).json()

    states = {row["image"]: row["state"] for row in said["images"]}
    assert states == {"app:dev": "unreadable", "other:dev": "in-step"}
    assert (
        one["images"][0]["because"]
        == "the registry cannot read this tag, which was pushed manually"
    )

    built = lab.docker.build(APP, "v2")  # what Docker had then is not what it has now
    lab.docker.before_push_ends = lab.registry.broken.clear
    assert built.digest == (await lab.pull()).headers["Docker-Content-Digest"]


async def test_a_push_by_hand_of_dockers_own_image_is_not_by_hand(lab: Lab) -> None:
    """`docker build && docker push`: what is lost of it is mended by the next pull."""
    lab.docker.build(APP, "v1")
    await _hand_push(lab, "v1")
    lab.registry.broken.add(("app", "dev"))
    lab.docker.before_push_ends = lab.registry.broken.clear

    answer = await lab.pull()

    expected = (200, "pushed") if lab.docker.store == "containerd" else (502, "backend-unreachable")
    assert (answer.status_code, answer.headers["Autoregistry"]) == expected


async def test_a_tag_is_set_by_one_push_at_a_time_and_the_other_hand_is_last(lab: Lab) -> None:
    """Ours is at the registry, which takes its time, when theirs comes."""
    lab.registry.delay = 0.3
    lab.docker.build(APP, "v1")
    pull = asyncio.create_task(lab.pull())
    await until(lambda: lab.registry.uploads_of("dev") == 1)
    theirs = await _hand_push(lab, "theirs")
    await pull

    answer = await lab.pull()

    assert theirs.digest == answer.headers["Docker-Content-Digest"]
    assert answer.headers["Autoregistry"] == "pushed-by-hand"
    assert lab.registry.most_at_once == 1


async def test_what_fails_after_a_push_by_hand_is_not_held_against_it(lab: Lab) -> None:
    pull = await _pull_in_its_push(lab)
    theirs = await _hand_push(lab, "theirs")
    lab.docker.error = DockerUnreachable("gone")
    lab.docker.may_push.set()
    await pull

    answer = await lab.pull()

    assert answer.headers["Autoregistry"] == "docker-unreachable"
    assert theirs.digest == answer.headers["Docker-Content-Digest"]


async def test_a_push_by_hand_that_fails_changes_nothing_that_is_known(lab: Lab) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    pull = await _pull_in_its_push(lab)
    lab.registry.refuse_puts = "UNKNOWN"
    failed = await lab.client.put(
        "/v2/app/manifests/dev", content=b"{}", headers={"User-Agent": "crane/0.22"}
    )
    lab.docker.error = DockerUnreachable("gone")
    lab.docker.may_push.set()
    await pull

    assert failed.status_code == 500
    assert (await lab.pull()).status_code == 403


async def test_a_digest_of_an_unreadable_tag_may_be_had_by_another(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")
    lab.docker.build(f"{NAME}/app:other", "v1")
    await lab.pull()
    await _hand_push(lab, "theirs")
    lab.registry.broken.add(("app", "dev"))
    lab.registry.manifests.pop(("app", built.digest))
    lab.registry.manifests.pop(("app", "other"), None)

    answer = await lab.pull(f"app@{built.digest}")

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "pushed")


async def test_long_lists_keep_no_short_question_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    built = lab.docker.build(APP, "v1")
    go_on = threading.Event()
    monkeypatch.setattr(lab.docker, "tags_with", lambda *_: go_on.wait(20) and [])
    asking = [asyncio.create_task(lab.pull(f"app@sha256:{n:064x}")) for n in range(20)]
    await asyncio.sleep(0.2)

    answer = await lab.pull()

    go_on.set()
    await asyncio.gather(*asking)
    assert built.digest == answer.headers["Docker-Content-Digest"]


async def test_a_push_by_hand_while_docker_was_away_and_had_nothing_ends_with_its_next_build(
    lab: Lab,
) -> None:
    lab.docker.error = DockerUnreachable("gone")
    await _hand_push(lab, "theirs")
    lab.docker.error = None
    assert (await lab.pull()).headers["Autoregistry"] == "only-in-registry"

    built = lab.docker.build(APP, "v1")

    assert built.digest == (await lab.pull()).headers["Docker-Content-Digest"]


async def test_what_docker_has_no_longer_is_not_held_against_the_tag(lab: Lab) -> None:
    lab.registry.put("app", "dev", MANIFEST_TYPE, FakeImage("old").manifest)
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "disk full"
    assert (await lab.pull()).status_code == 403
    del lab.docker.images[APP]
    assert (await lab.pull()).headers["Autoregistry"] == "only-in-registry"
    lab.docker.error = DockerUnreachable("gone")

    answer = await lab.pull()

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_a_docker_too_busy_to_list_an_indexs_children_has_answered_all_the_same(
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
    answer = await lab.pull()

    if lab.docker.store == "containerd":  # the other has no indexes
        assert answer.headers["Autoregistry"] == "pushed"
        assert built.digest == answer.headers["Docker-Content-Digest"]


async def test_a_newer_build_pushed_by_hand_in_the_middle_of_ours_stands(lab: Lab) -> None:
    """Though its own push waits for its turn behind ours."""
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    pulls = [asyncio.create_task(lab.pull())]
    await asyncio.to_thread(lab.docker.in_push.wait, 10)
    newer = lab.docker.build(APP, "v2")
    pulls.append(asyncio.create_task(lab.pull()))
    await until(lambda: len(lab.docker.inspected) > 1)
    await _hand_push(lab, "v2")
    lab.docker.may_push.set()
    answers = [*await asyncio.gather(*pulls), await lab.pull()]

    assert {answer.headers["Docker-Content-Digest"] for answer in answers} == {newer.digest}
    assert lab.registry.manifests["app", "dev"][1] == newer.manifest


async def test_the_same_image_pushed_by_hand_in_the_middle_of_ours_is_up_to_date(lab: Lab) -> None:
    """What a script that builds and pushes does."""
    pull = await _pull_in_its_push(lab)
    await _hand_push(lab, "v1")
    lab.docker.may_push.set()
    first, second = await pull, await lab.pull()

    assert first.status_code == 200
    assert second.headers["Autoregistry"] == "up-to-date"
    assert lab.docker.pushed == [(APP, "v1")]


async def test_a_push_by_hand_ends_what_was_known_against_the_tag(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "disk full"
    assert (await lab.pull()).status_code == 403
    await _hand_push(lab, "theirs")
    lab.docker.error = DockerUnreachable("gone")

    answer = await lab.pull()

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_a_push_longer_than_patience_is_408_and_the_next_pull_joins_it(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, patience=0.2)
    async with lab.serving():
        built = lab.docker.build(APP, "v1")
        lab.docker.may_push.clear()

        early = [await lab.pull() for _ in range(2)]
        lab.docker.may_push.set()
        late = await lab.pull(agent="crane")

    told = [(answer.status_code, answer.headers["Autoregistry"]) for answer in early]
    assert told == [(408, "pushing")] * 2
    assert built.digest == late.headers["Docker-Content-Digest"]
    assert len(lab.docker.pushed) == 1


async def test_clients_without_a_limit_of_their_own_simply_wait(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.settings = replace(lab.settings, patience=0.1)
    async with lab.serving():
        lab.docker.build(APP, "v1")
        lab.docker.push_seconds = 0.4

        answer = await lab.pull(
            agent="docker/20.10.24 go/go1.19 UpstreamClient(Docker-Client/20.10)"
        )

    assert answer.status_code == 200


async def test_a_client_that_hangs_up_does_not_end_the_push(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.may_push.clear()
    pull = asyncio.create_task(lab.pull())
    await asyncio.to_thread(lab.docker.in_push.wait)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    lab.docker.may_push.set()

    answer = await lab.pull()

    assert answer.status_code == 200
    assert len(lab.docker.pushed) == 1


async def test_by_digest_docker_is_not_asked_when_the_backend_has_it(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")
    await lab.pull()
    lab.docker.inspected.clear()

    answer = await lab.pull(f"app@{built.digest}")

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "up-to-date")
    assert lab.docker.inspected == []


async def test_by_digest_what_only_docker_knows_is_pushed_by_one_of_its_tags(lab: Lab) -> None:
    built = lab.docker.build(APP, "v1")

    answer = await lab.pull(f"app@{built.digest}")

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "pushed")
    assert built.digest == answer.headers["Docker-Content-Digest"]


async def test_other_pushers_existence_checks_pass_untouched(lab: Lab) -> None:
    lab.docker.build(APP, "v1")

    answer = await lab.client.head(
        "/v2/app/manifests/dev", headers={"Accept": f"{MANIFEST_TYPE}, */*"}
    )

    assert (answer.status_code, answer.headers["Autoregistry"]) == (404, "own-push")
    assert lab.docker.pushed == []


async def test_a_client_that_accepts_less_is_not_mistaken_for_a_missing_image(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()

    answer = await lab.client.get("/v2/app/manifests/dev", headers={"Accept": "application/json"})

    assert (answer.status_code, answer.headers["Autoregistry"]) == (404, "up-to-date")
    assert len(lab.docker.pushed) == 1


async def test_a_backend_that_is_away_is_502_naming_it_and_comes_back(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    port = lab.registry.port
    await lab.registry.stop()

    away = await lab.pull()
    await lab.registry.start(port)
    back = await lab.pull()

    assert away.status_code == 502
    assert f"http://127.0.0.1:{port}" in away.reason_phrase
    assert back.status_code == 200


async def test_a_docker_that_hangs_is_waited_for_so_long_and_no_longer(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    monkeypatch.setattr("autoregistry.proxy.pull.docker.DOCKER_CALL_SECONDS", 0.1)
    lab.docker.inspect_seconds = 0.5

    answer = await lab.pull()

    assert (answer.status_code, answer.headers["Autoregistry"]) == (200, "docker-unreachable")


async def test_an_image_under_the_alias_is_found_too(lab: Lab) -> None:
    built = lab.docker.build("127.0.0.1:5000/app:dev", "v1")

    answer = await lab.pull()

    assert built.digest == answer.headers["Docker-Content-Digest"]


async def test_every_pull_is_told_with_its_verdict(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()

    told = [
        e for e in lab.events if isinstance(e, PullAnswered) and e.answer is not Answer.OWN_PUSH
    ]

    assert [str(e.manifest) for e in told] == ["app:dev"]
    assert told[0].sentence.startswith(
        "Docker's image is missing from the registry: pushed 0.0 MB in"
    )


async def test_a_foreign_namespace_or_host_is_refused_without_asking_docker(lab: Lab) -> None:
    lab.docker.build(APP, "v1")

    foreign_ns = await lab.client.get("/v2/app/manifests/dev?ns=docker.io")
    foreign_host = await lab.client.get("/v2/app/manifests/dev", headers={"Host": "evil.example"})
    no_registry = await lab.client.get("/index.php")

    assert [a.status_code for a in (foreign_ns, foreign_host, no_registry)] == [404, 421, 400]
    assert lab.docker.inspected == []


async def test_health_says_how_docker_and_the_backend_are(lab: Lab) -> None:
    well = (await lab.client.get("/_autoregistry/health")).json()
    lab.docker.error = DockerUnreachable("gone")
    ill = await lab.client.get("/_autoregistry/health")

    assert (well["docker"], well["backend"]) == ("ok", "ok")
    assert (ill.status_code, ill.json()["docker"]) == (200, "does not answer")


async def test_a_node_on_dockers_network_is_sent_to_the_backend_for_blobs(idle_lab: Lab) -> None:
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


async def test_httpx_is_not_sent_by_a_proxy_of_the_environment(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answer: httpx.Response = await lab.pull()

    assert answer.status_code == 404


async def test_a_builder_that_keeps_its_images_is_named_where_nobody_has_the_image(
    lab: Lab,
) -> None:
    lab.docker.buildx = ["multi"]
    await lab.pull()

    told = [e.sentence for e in lab.events if isinstance(e, PullAnswered)]
    assert told[0].endswith("builder multi keeps its images: docker buildx build --load")


@pytest.mark.parametrize("after_push", [False, True])
async def test_a_link_that_is_just_being_written_is_read_again(lab: Lab, after_push: bool) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    if after_push:
        rebuilt = lab.docker.build(APP, "v2")
        lab.docker.before_push_ends = lambda: setattr(lab.registry, "unreadable", 2)
    else:
        lab.registry.unreadable = 2

    answer = await lab.pull()

    assert answer.status_code == 200
    assert len(lab.docker.pushed) == (2 if after_push else 1)
    if after_push:
        assert rebuilt.digest == answer.headers["Docker-Content-Digest"]


async def test_a_docker_that_answers_others_is_not_away(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that waits behind many has not been asked yet: the old image must not be served."""
    lab.docker.build(APP, "v1")
    await lab.pull()
    built = lab.docker.build(APP, "v2")
    monkeypatch.setattr("autoregistry.proxy.pull.docker.DOCKER_CALL_SECONDS", 1.0)
    lab.docker.inspect_seconds = 0.05
    others = [asyncio.create_task(lab.pull(f"other{number}:dev")) for number in range(200)]
    await until(lambda: len(lab.docker.inspected) > 3)
    answer = await lab.pull()
    await asyncio.gather(*others)

    assert built.digest == answer.headers["Docker-Content-Digest"]


async def test_names_that_nobody_has_leave_nothing_behind(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    for number in range(5):
        await lab.pull(f"nobody{number}:dev")
        await lab.client.post("/_autoregistry/push", json={"images": [f"nobody{number}:dev"]})

    assert list(lab.proxy.journal.dates()) == [Image("app", "dev")]
