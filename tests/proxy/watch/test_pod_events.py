"""Events on pods: only the newest of an image is written, and one image does not delay those of another."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field

import pytest

from autoregistry.events import PushFailed, PushFinished, PushStarted
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.background import THREADS_PER_NAME, Background
from autoregistry.proxy.watch.async_nodes import AsyncNodes
from autoregistry.proxy.watch.pod_events import PodEvents
from tests.fakes.nodes import FakeNodes, node, waiting
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.waiting import until

APP = f"{NAME}/app:dev"
BROKEN, SHORT = Image("broken", "dev"), Image("short", "dev")


@dataclass
class SlowForBroken(FakeNodes):
    """A cluster that creates Events about one image slowly."""

    release: threading.Event = field(default_factory=threading.Event)

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        if "broken" in (input or ""):
            self.release.wait(20)
        return super().kubectl(cluster, *words, input=input)

    def messages(self) -> list[str]:
        return [json.loads(text)["message"] for _, _, text in self.kubectl_calls]


def _pod_events(nodes: FakeNodes) -> tuple[PodEvents, Background]:
    background = Background(lambda _: None)
    return PodEvents(AsyncNodes(nodes, RegistryNames(NAME, ()), background)), background


async def test_image_that_fails_repeatedly_does_not_delay_the_events_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.pod_events.FIRST_EVENT_SECONDS", 0)
    server = node("k3d-dev-server-0")
    nodes = SlowForBroken({server: {}})
    nodes.pods = [waiting(server.name, f"{NAME}/{image}") for image in (BROKEN, SHORT)]
    pod_events, background = _pod_events(nodes)

    for number in range(2 * THREADS_PER_NAME):
        pod_events.handle(PushStarted(BROKEN, "sha256:aa", "missing"))
        await asyncio.sleep(0)  # long enough for the first Event
        await asyncio.sleep(0)
        pod_events.handle(PushFailed(BROKEN, f"cause {number}"))
    pod_events.handle(PushStarted(SHORT, "sha256:bb", "missing"))

    await until(lambda: nodes.messages() == [f"autoregistry: pushing {SHORT}, 0 %"])
    nodes.release.set()
    pod_events.handle(PushFailed(BROKEN, "the last cause"))
    await until(lambda: len(nodes.messages()) == 3)
    await background.stop()
    assert nodes.messages()[-1].endswith("the last cause")


async def test_failure_that_is_outdated_before_it_is_written_is_dropped() -> None:
    server = node("k3d-dev-server-0")
    nodes = SlowForBroken({server: {}})
    nodes.pods = [waiting(server.name, f"{NAME}/{BROKEN}")]
    pod_events, background = _pod_events(nodes)

    pod_events.handle(PushFailed(BROKEN, "disk full"))
    await asyncio.sleep(0)  # the first Event is being written
    pod_events.handle(PushFailed(BROKEN, "disk full again"))
    pod_events.handle(PushFinished(BROKEN, "sha256:aa", "sha256:bb", 0, 0.0))
    nodes.release.set()
    await until(lambda: nodes.messages() != [])
    await asyncio.sleep(0.2)
    await background.stop()

    assert nodes.messages() == [f"autoregistry: {BROKEN} could not be pushed: disk full"]


async def test_waiting_pods_get_events_with_the_progress_and_the_failure_of_the_push(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.pod_events.FIRST_EVENT_SECONDS", 0)
    lab.docker.build(APP, "v1")
    lab.docker.push_seconds, lab.docker.push_error = 0.5, "disk full"
    lab.nodes.images = {node("a"): {}}
    lab.nodes.pods = [waiting("a", APP), waiting("a", f"{NAME}/other:dev")]

    await lab.pull()
    await until(lambda: len(lab.nodes.kubectl_calls) >= 2)

    calls = [(words[0], text) for _, words, text in lab.nodes.kubectl_calls]
    created = [json.loads(text) for verb, text in calls if verb == "create"]
    assert [event["reason"] for event in created] == ["Pushing", "PushFailed"]
    assert created[0]["message"].startswith("autoregistry: pushing app:dev, ")
    assert created[1]["message"] == "autoregistry: app:dev could not be pushed: disk full"
    assert created[0]["involvedObject"]["name"] == "app-1"
