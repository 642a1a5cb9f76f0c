"""News to the pods: of several causes the last one counts, and one image never keeps another's from being told."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass, field

import pytest

from autoregistry.events import PushFailed, PushFinished, PushStarted
from autoregistry.names import Image, RegistryNames
from autoregistry.proxy.watch.pod_events import THREADS, PodEvents
from tests.fakes.nodes import FakeNodes, node, waiting
from tests.helpers.waiting import until

NAME = "localhost:5000"
BROKEN, SHORT = Image("broken", "dev"), Image("short", "dev")


@dataclass
class SlowForBroken(FakeNodes):
    """A cluster that takes its time to note what is said of one image."""

    release: threading.Event = field(default_factory=threading.Event)

    def kubectl(self, cluster: str, *words: str, input: str | None = None) -> str:
        if "broken" in (input or ""):
            self.release.wait(20)
        return super().kubectl(cluster, *words, input=input)

    def messages(self) -> list[str]:
        return [json.loads(said)["message"] for _, _, said in self.kubectl_calls]


async def test_an_image_that_fails_again_and_again_keeps_no_other_from_being_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autoregistry.proxy.watch.pod_events.FIRST_SECONDS", 0)
    server = node("k3d-dev-server-0")
    nodes = SlowForBroken({server: {}})
    nodes.pods = [waiting(server.name, f"{NAME}/{image}") for image in (BROKEN, SHORT)]
    news = PodEvents(nodes, RegistryNames(NAME, ()))

    for number in range(2 * THREADS):
        news.take(PushStarted(BROKEN, "sha256:aa", "missing"))
        await asyncio.sleep(0)  # long enough for "pushing" to be said of it
        await asyncio.sleep(0)
        news.take(PushFailed(BROKEN, f"cause {number}"))
    news.take(PushStarted(SHORT, "sha256:bb", "missing"))

    await until(lambda: nodes.messages() == [f"autoregistry: pushing {SHORT}, 0 %"])
    nodes.release.set()
    news.take(PushFailed(BROKEN, "the last cause"))
    await until(lambda: len(nodes.messages()) == 3)
    news.close()
    assert nodes.messages()[-1].endswith("the last cause")


async def test_what_was_not_told_before_it_was_pushed_after_all_is_not_told() -> None:
    server = node("k3d-dev-server-0")
    nodes = SlowForBroken({server: {}})
    nodes.pods = [waiting(server.name, f"{NAME}/{BROKEN}")]
    news = PodEvents(nodes, RegistryNames(NAME, ()))

    news.take(PushFailed(BROKEN, "disk full"))
    await asyncio.sleep(0)  # it is being told
    news.take(PushFailed(BROKEN, "disk full again"))
    news.take(PushFinished(BROKEN, "sha256:aa", "sha256:bb", 0, 0.0))
    nodes.release.set()
    await until(lambda: nodes.messages() != [])
    await asyncio.sleep(0.2)
    news.close()

    assert nodes.messages() == [f"autoregistry: {BROKEN} could not be pushed: disk full"]
