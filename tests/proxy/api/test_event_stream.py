"""The stream of events, and what the proxy says about itself."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from autoregistry.event_json import from_json, to_json
from autoregistry.events import Event, PushProgress, PushStarted
from autoregistry.proxy.api import event_stream as stream
from autoregistry.proxy.api import status
from autoregistry.proxy.api.event_stream import EventStream
from autoregistry.proxy.api.history import History
from autoregistry.settings import CHECK
from tests.fakes.nodes import node
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.sample_events import EVENTS, IMAGE

APP = f"{NAME}/app:dev"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_survives_json(event: Event) -> None:
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_every_kind_of_event_is_in_that_test() -> None:
    assert set(Event.__args__) == {type(event) for event in EVENTS}


@pytest.mark.parametrize(
    "said", [{}, {"type": "of-the-future"}, {"type": "push-failed", "image": "A B"}]
)
def test_what_this_version_does_not_know_is_none(said: dict[str, Any]) -> None:
    assert from_json(said) is None


@asynccontextmanager
async def _listening(lab: Lab, after: str = "") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    headers = {"Last-Event-ID": after} if after else {}
    async with lab.client.stream("GET", "/_autoregistry/events", headers=headers) as answer:
        lines = answer.aiter_lines()

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for line in lines:
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

        async with asyncio.timeout(20):
            yield events()


async def _until(events: AsyncIterator[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    async for said in events:
        seen.append(said)
        if said["type"] == kind:
            return seen
    raise AssertionError(f"no {kind} in {seen}")


async def test_a_pull_is_told_from_its_question_to_its_answer(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    async with _listening(lab) as events:
        await _until(events, "hello")
        await lab.pull()
        seen = await _until(events, "push-finished")

    kinds = [said["type"] for said in seen]
    assert [kinds[0], kinds[1]] == ["pull-seen", "push-started"]
    assert "push-progress" in kinds


def test_what_runs_is_as_far_as_was_last_said() -> None:
    stream = EventStream(History(), "1")
    stream.emit(PushStarted(IMAGE, "sha256:one", "missing"))
    for done in (1, 50, 99):
        stream.emit(PushProgress(IMAGE, done, 100, 0, 1))

    (running,) = stream.running.values()
    assert (running["done_bytes"], running["because"]) == (99, "missing")
    assert "started_at" in running


async def test_who_comes_back_is_told_what_was_missed(lab: Lab) -> None:
    async with _listening(lab) as events:
        hello = (await _until(events, "hello"))[-1]
    lab.docker.build(APP, "v1")
    await lab.pull()

    async with _listening(lab, hello["id"]) as events:
        missed = await _until(events, "hello")

    assert {"push-started", "push-finished", "pull-answered"} <= {said["type"] for said in missed}
    assert missed[-1]["is_complete"]


async def test_history_outlives_a_restart(idle_lab: Lab) -> None:
    lab = idle_lab
    async with lab.serving():
        async with _listening(lab) as events:
            hello = (await _until(events, "hello"))[-1]
        lab.docker.build(APP, "v1")
        await lab.pull()
    async with lab.serving(), _listening(lab, hello["id"]) as events:
        missed = await _until(events, "hello")

    assert "push-finished" in [said["type"] for said in missed]


async def _listeners(lab: Lab) -> float:
    lines = (await lab.client.get("/_autoregistry/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("autoregistry_listen"))


async def test_who_does_not_read_is_dropped_and_the_others_are_told_all(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.api.event_stream.STALLED_SECONDS", 0.3)
    monkeypatch.setattr("autoregistry.proxy.api.event_stream.UNREAD_BYTES", 2048)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(lab.proxy.server.addresses[0])
        stalled.sendall(b"GET /_autoregistry/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with _listening(lab) as events:
            await _until(events, "hello")
            long, sent, heard = "/".join(["a-long-name"] * 20), 0, 0
            while await _listeners(lab) == 2:
                await asyncio.gather(*(lab.pull(f"{long}:t{number}") for number in range(20)))
                sent += 20
                while heard < sent:
                    heard += (await anext(events))["type"] == "pull-answered"

            assert await _listeners(lab) == 1
        stalled.settimeout(10)
        with suppress(ConnectionResetError):
            while stalled.recv(1 << 20):
                pass  # to the connection's end


async def test_what_many_have_missed_is_not_made_before_they_read_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.api.event_stream.UNREAD_BYTES", 2048)
    long = "/".join(["a-long-name"] * 20)
    for start in range(0, 1000, 50):
        await asyncio.gather(*(lab.pull(f"{long}:t{n}") for n in range(start, start + 50)))
    made: list[object] = []
    text = stream._text

    def counted(said: dict[str, Any]) -> bytes:
        made.append(said)
        return text(said)

    monkeypatch.setattr(stream, "_text", counted)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(lab.proxy.server.addresses[0])
        stalled.sendall(b"GET /_autoregistry/events?after=0-0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await _listeners(lab) == 0:
            pass

        assert len(made) < 500


async def test_status_shows_the_three_stores_side_by_side(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.build(f"{NAME}/new:dev", "only built")
    lab.nodes.images = {node("a"): {APP: frozenset({"sha256:old"})}}

    said = (await lab.client.get("/_autoregistry/status")).json()

    rows = {row["image"]: row for row in said["images"]}
    assert (rows["app:dev"]["state"], rows["new:dev"]["state"]) == ("behind", "only-in-docker")
    assert rows["app:dev"]["nodes"][0]["digest"] == "sha256:old"
    if lab.docker.store == "containerd":
        assert rebuilt.digest == rows["app:dev"]["docker"]
    assert said["pulls"][0]["type"] == "pull-answered"
    assert {"docker": "ok", "backend": "ok"}.items() <= said["health"].items()


async def test_the_check_of_the_commands_is_in_no_list(lab: Lab) -> None:
    lab.docker.build(f"{NAME}/{CHECK}", "v1")
    assert (await lab.pull(CHECK)).headers["Autoregistry"] == "pushed"

    said = (await lab.client.get("/_autoregistry/status")).json()
    one = (await lab.client.get(f"/_autoregistry/status?image={CHECK}")).json()

    assert [said[what] for what in ("images", "pulls", "pushes")] == [[], [], []]
    assert [row["state"] for row in one["images"]] == ["in-step"]


async def test_status_tells_how_every_node_is(lab: Lab) -> None:
    lab.nodes.images = {node("a"): {APP: frozenset({"sha256:old"})}, node("b"): {}}
    lab.nodes.silent = {"b"}
    lab.nodes.others = [node("c"), replace(node("d"), is_running=False)]
    lab.docker.build(APP, "v1")

    said = (await lab.client.get("/_autoregistry/status")).json()

    assert {one["node"]: one["state"] for one in said["nodes"]} == {
        "a": "ok",
        "b": "does not answer",
        "c": "not attached",
        "d": "stopped",
    }
    (row,) = said["images"]
    assert [held["is_known"] for held in row["nodes"]] == [True, False]


async def test_one_image_comes_with_what_its_next_pull_will_do(lab: Lab) -> None:
    lab.docker.build(APP, "v1")

    said = (await lab.client.get("/_autoregistry/status?image=app:dev")).json()

    assert said["next"] == {
        "sentence": "at the next pull Docker pushes first",
        "command": "autoregistry push app:dev",
    }


async def test_little_disk_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = (await lab.client.get("/_autoregistry/status")).json()
    monkeypatch.setattr(status, "LITTLE_DISK", plenty["free_bytes"] * 2)

    little = (await lab.client.get("/_autoregistry/health")).json()

    assert plenty["health"]["disk"] == "ok"
    assert re.fullmatch(r"only [0-9.]+ GB free", little["disk"])


async def test_a_push_by_command_is_the_flight_a_pull_would_join(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.push_seconds = 0.2

    pushed, pulled = await asyncio.gather(
        lab.client.post("/_autoregistry/push", json={"images": ["app:*", "no:such"], "wait": 10}),
        lab.pull(),
    )

    assert [state["state"] for state in pushed.json()["images"]] == ["pushed"]
    assert pushed.json()["unmatched"] == ["no:such"]
    assert pulled.status_code == 200
    assert len(lab.docker.pushed) == 1


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "http://evil.example"}, id="another site's page"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="as browsers say it"),
        pytest.param({"Content-Type": "text/plain"}, id="a form, which needs no question first"),
    ],
)
async def test_another_sites_page_can_do_nothing(lab: Lab, headers: dict[str, str]) -> None:
    lab.docker.build(APP, "v1")
    sent = {"Content-Type": "application/json", **headers}

    answer = await lab.client.post("/_autoregistry/push", content='{"images": ["*"]}', headers=sent)
    by_get = await lab.client.get("/_autoregistry/push")

    assert answer.status_code in (403, 415)
    assert by_get.status_code in (400, 404, 405)
    assert lab.docker.pushed == []
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param('{"images": ["a:b"], "wait": NaN}', 200, id="no number"),
        pytest.param('{"images": ["a:b"], "wait": 1' + "0" * 400 + "}", 200, id="a great number"),
        pytest.param("[" * 60_000, 400, id="deep"),
        pytest.param(json.dumps({"images": ["a:b"] * 101}), 400, id="many"),
    ],
)
async def test_what_is_asked_too_much_of_is_one_clean_answer(
    lab: Lab, content: str, status: int
) -> None:
    sent = {"Content-Type": "application/json"}
    answer = await lab.client.post("/_autoregistry/push", content=content, headers=sent)

    assert answer.status_code == status
