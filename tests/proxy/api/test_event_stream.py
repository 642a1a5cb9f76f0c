"""The event stream, the status of the proxy, and its actions."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import Any

import pytest

from autoregistry.event_json import from_json, to_json
from autoregistry.events import Event, PushProgress, PushStarted
from autoregistry.proxy.api import event_stream, node_inventory
from autoregistry.proxy.api.event_stream import EventStream
from autoregistry.proxy.api.history import History
from autoregistry.proxy.pull.state_file import STATE_FILE, folder_for
from autoregistry.settings import CHECK
from tests.fakes.nodes import node
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.sample_events import EVENTS, IMAGE
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_each_event_can_be_read_back_from_json(event: Event) -> None:
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


def test_the_list_has_every_kind_of_event() -> None:
    assert set(Event.__args__) == {type(event) for event in EVENTS}


@pytest.mark.parametrize(
    "payload", [{}, {"type": "of-the-future"}, {"type": "push-failed", "image": "A B"}]
)
def test_an_unknown_event_is_read_as_none(payload: dict[str, Any]) -> None:
    assert from_json(payload) is None


@asynccontextmanager
async def _listening(lab: Lab, after: str = "") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    headers = {"Last-Event-ID": after} if after else {}
    async with lab.client.stream("GET", "/_autoregistry/events", headers=headers) as response:
        lines = response.aiter_lines()

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for line in lines:
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

        async with asyncio.timeout(20):
            yield events()


async def _until(events: AsyncIterator[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    async for payload in events:
        seen.append(payload)
        if payload["type"] == kind:
            return seen
    raise AssertionError(f"no {kind} in {seen}")


async def test_a_pull_is_reported_from_its_request_to_its_push(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    async with _listening(lab) as events:
        await _until(events, "hello")
        await lab.pull()
        seen = await _until(events, "push-finished")

    kinds = [event["type"] for event in seen]
    assert [kinds[0], kinds[1]] == ["pull-seen", "push-started"]
    assert "push-progress" in kinds


def test_a_running_push_has_its_latest_progress() -> None:
    stream = EventStream(History())
    stream.emit(PushStarted(IMAGE, "sha256:one", "missing"))
    for done in (1, 50, 99):
        stream.emit(PushProgress(IMAGE, done, 100, 0, 1))

    (running,) = stream.running.values()
    assert (running["done_bytes"], running["because"]) == (99, "missing")
    assert "started_at" in running


async def test_a_client_that_reconnects_gets_the_events_it_missed(lab: Lab) -> None:
    async with _listening(lab) as events:
        hello = (await _until(events, "hello"))[-1]
    lab.docker.build(APP, "v1")
    await lab.pull()

    async with _listening(lab, hello["id"]) as events:
        missed = await _until(events, "hello")

    assert {"push-started", "push-finished", "pull-answered"} <= {event["type"] for event in missed}
    assert missed[-1]["is_complete"]


async def test_the_history_survives_a_restart(idle_lab: Lab) -> None:
    lab = idle_lab
    async with lab.serving():
        async with _listening(lab) as events:
            hello = (await _until(events, "hello"))[-1]
        lab.docker.build(APP, "v1")
        await lab.pull()
    async with lab.serving(), _listening(lab, hello["id"]) as events:
        missed = await _until(events, "hello")

    assert "push-finished" in [event["type"] for event in missed]


async def _listeners(lab: Lab) -> float:
    lines = (await lab.client.get("/_autoregistry/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("autoregistry_listen"))


async def test_a_client_that_does_not_read_is_dropped_and_others_get_all_events(
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
            long, sent, received = "/".join(["a-long-name"] * 20), 0, 0
            while await _listeners(lab) == 2:
                await asyncio.gather(*(lab.pull(f"{long}:t{number}") for number in range(20)))
                sent += 20
                while received < sent:
                    received += (await anext(events))["type"] == "pull-answered"

            assert await _listeners(lab) == 1
        stalled.settimeout(10)
        with suppress(ConnectionResetError):
            while stalled.recv(1 << 20):
                pass  # to the connection's end


async def test_missed_events_are_not_encoded_before_the_client_reads_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.api.event_stream.UNREAD_BYTES", 2048)
    long = "/".join(["a-long-name"] * 20)
    for start in range(0, 1000, 50):
        await asyncio.gather(*(lab.pull(f"{long}:t{n}") for n in range(start, start + 50)))
    encoded: list[object] = []
    encode = event_stream._encode

    def counted(payload: dict[str, Any]) -> bytes:
        encoded.append(payload)
        return encode(payload)

    monkeypatch.setattr(event_stream, "_encode", counted)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(lab.proxy.server.addresses[0])
        stalled.sendall(b"GET /_autoregistry/events?after=0-0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await _listeners(lab) == 0:
            pass

        assert len(encoded) < 500


async def test_status_compares_docker_the_registry_and_the_nodes(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    rebuilt = lab.docker.build(APP, "v2")
    lab.docker.build(f"{NAME}/new:dev", "only built")
    lab.nodes.images = {node("a"): {APP: frozenset({"sha256:old"})}}

    payload = (await lab.client.get("/_autoregistry/status")).json()

    rows = {row["image"]: row for row in payload["images"]}
    assert (rows["app:dev"]["state"], rows["new:dev"]["state"]) == ("behind", "only-in-docker")
    assert rows["app:dev"]["nodes"][0]["digest"] == "sha256:old"
    if lab.docker.store == "containerd":
        assert rebuilt.digest == rows["app:dev"]["docker"]
    assert payload["pulls"][0]["type"] == "pull-answered"
    assert {"docker": "ok", "backend": "ok"}.items() <= payload["health"].items()


async def test_images_of_checks_are_not_listed(lab: Lab) -> None:
    """Review E: each check has a tag of its own."""
    check = f"{CHECK}:1f3c"
    lab.docker.build(f"{NAME}/{check}", "v1")
    assert (await lab.pull(check)).headers["Autoregistry"] == "pushed"

    everything = (await lab.client.get("/_autoregistry/status")).json()
    one = (await lab.client.get(f"/_autoregistry/status?image={check}")).json()

    assert [everything[key] for key in ("images", "pulls", "pushes")] == [[], [], []]
    assert [row["state"] for row in one["images"]] == ["in-step"]


async def test_status_has_the_state_of_every_node(lab: Lab) -> None:
    lab.nodes.images = {node("a"): {APP: frozenset({"sha256:old"})}, node("b"): {}}
    lab.nodes.silent = {"b"}
    lab.nodes.others = [node("c"), replace(node("d"), is_running=False)]
    lab.docker.build(APP, "v1")

    payload = (await lab.client.get("/_autoregistry/status")).json()

    assert {entry["node"]: entry["state"] for entry in payload["nodes"]} == {
        "a": "ok",
        "b": "does not answer",
        "c": "not attached",
        "d": "stopped",
    }
    (row,) = payload["images"]
    assert [copy["is_known"] for copy in row["nodes"]] == [True, False]


async def test_the_status_of_one_image_describes_its_next_pull(lab: Lab) -> None:
    lab.docker.build(APP, "v1")

    payload = (await lab.client.get("/_autoregistry/status?image=app:dev")).json()

    assert payload["next"] == {
        "sentence": "the next pull waits until Docker has pushed the image",
        "command": "autoregistry push app:dev",
    }


async def test_health_reports_a_nearly_full_disk(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    plenty = (await lab.client.get("/_autoregistry/status")).json()
    monkeypatch.setattr("autoregistry.proxy.api.status.MIN_FREE_BYTES", plenty["free_bytes"] * 2)

    little = (await lab.client.get("/_autoregistry/health")).json()

    assert plenty["health"]["disk"] == "ok"
    assert re.fullmatch(r"only [0-9.]+ GB free", little["disk"])


async def test_health_reports_a_journal_that_cannot_be_written(lab: Lab) -> None:
    """review 3: the only notice scrolled by long before, and health did not report it."""

    async def journal() -> str:
        return str((await lab.client.get("/_autoregistry/health")).json()["journal"])

    before = await journal()
    lab.docker.build(APP, "v1")
    folder = folder_for(lab.settings.names.primary, lab.settings.state)
    with closing(sqlite3.connect(folder / STATE_FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        await lab.pull()
        locked = await journal()
        other.rollback()
    await until(lambda: not lab.proxy.core.journal.file.failure)

    assert (before, locked, await journal()) == ("ok", "database is locked", "ok")


async def test_health_reports_background_work_that_fails(lab: Lab) -> None:
    """review 10: work that had ended with an internal error was not seen anywhere."""

    async def fail() -> None:
        raise KeyError("Actor")

    before = (await lab.client.get("/_autoregistry/health")).json()["background"]
    lab.proxy.core.background.permanently("docker-events", fail)
    await asyncio.sleep(0.1)
    after = (await lab.client.get("/_autoregistry/health")).json()["background"]

    assert (before, after) == ({}, {"docker-events": "KeyError: 'Actor'"})


async def test_node_that_hangs_does_not_delay_the_status_for_long(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_inventory, "READ_SECONDS", 0.3)
    wakes = threading.Event()
    lab.nodes.images = {node("hung"): {}, node("healthy"): {}}

    def hang(name: str) -> None:
        if name == "hung":
            wakes.wait(20)

    lab.nodes.before_endpoints = hang
    began = time.monotonic()

    payload = (await lab.client.get("/_autoregistry/status")).json()
    took = time.monotonic() - began
    wakes.set()

    states = {entry["node"]: entry["state"] for entry in payload["nodes"]}
    assert states == {"hung": "does not answer", "healthy": "ok"}
    assert took < 15


async def test_a_requested_push_and_a_pull_share_one_push(lab: Lab) -> None:
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
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="cross-site by Sec-Fetch-Site"),
        pytest.param({"Content-Type": "text/plain"}, id="a form, which needs no preflight"),
    ],
)
async def test_actions_are_refused_to_pages_of_other_sites(
    lab: Lab, headers: dict[str, str]
) -> None:
    lab.docker.build(APP, "v1")
    sent = {"Content-Type": "application/json", **headers}

    response = await lab.client.post(
        "/_autoregistry/push", content='{"images": ["*"]}', headers=sent
    )
    by_get = await lab.client.get("/_autoregistry/push")

    assert response.status_code == (415 if "Content-Type" in headers else 421)
    assert by_get.status_code in (400, 404, 405)
    assert lab.docker.pushed == []
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param('{"images": ["a:b"], "wait": NaN}', 200, id="not a number"),
        pytest.param('{"images": ["a:b"], "wait": 1' + "0" * 400 + "}", 200, id="a huge number"),
        pytest.param("[" * 60_000, 400, id="deep"),
        pytest.param(json.dumps({"images": ["a:b"] * 101}), 400, id="many"),
    ],
)
async def test_an_excessive_request_gets_one_clean_response(
    lab: Lab, content: str, status: int
) -> None:
    sent = {"Content-Type": "application/json"}
    response = await lab.client.post("/_autoregistry/push", content=content, headers=sent)

    assert response.status_code == status
