"""What `watch`, `push`, `images` and `why` print of a running proxy, asked by its port alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoregistry.cli.docker import ImageFacts
from autoregistry.events import Notice
from autoregistry.names import RegistryNames
from autoregistry.settings import Address, Settings
from tests.fakes.docker import FakeDocker
from tests.fakes.nodes import node
from tests.fakes.registry import FakeRegistry
from tests.helpers.commands import Type
from tests.helpers.proxy_lab import NAME, Lab

APP = f"{NAME}/shop/api:dev"


class Background:
    """An event loop in a thread: commands are synchronous, and ask from outside."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path, background: Background, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    registry = FakeRegistry()
    background.do(registry.__aenter__())
    settings = Settings(
        listen=(Address("127.0.0.1", 0),),
        backend=registry.url,
        names=RegistryNames(NAME, ("127.0.0.1:5000",)),
        state=tmp_path,
        watch=False,
    )
    lab = Lab(registry, FakeDocker(), settings)
    serving = lab.serving()
    background.do(serving.__aenter__())
    port = lab.proxy.server.addresses[0][1]
    monkeypatch.setenv("AUTOREGISTRY_NAME", f"localhost:{port}")
    yield lab
    background.do(serving.__aexit__(None, None, None))
    background.do(registry.__aexit__(None, None, None))


def test_push_says_how_each_image_ended(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")

    first, again = typed("push", "shop/*"), typed("push", "shop/api:dev")

    assert first.exit_code == again.exit_code == 0
    assert first.stdout.startswith("shop/api:dev  pushed 0.0 MB in ")
    assert again.stdout == "shop/api:dev  the registry has Docker's image\n"


def test_a_push_that_fails_is_an_error_with_its_cause(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "no space left on device"

    said = typed("push", "shop/api:dev")

    assert said.exit_code == 1
    assert "shop/api:dev  no space left on device" in said.stderr
    assert said.stderr.endswith(
        "error: could not be pushed: shop/api:dev\nhint: autoregistry logs --tail 20\n"
    )


def test_an_image_that_docker_does_not_have_is_an_error(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")

    said = typed("push", "shop/*", "other:dev")

    assert said.exit_code == 1
    assert said.stdout.startswith("shop/api:dev  pushed ")
    assert said.stderr.endswith(
        "error: Docker has no image other:dev under our name\nhint: autoregistry images\n"
    )


def test_images_puts_the_stores_side_by_side(lab: Lab, typed: Type, background: Background) -> None:
    lab.nodes.images = {node("a"): {APP: frozenset({"sha256:old"})}}
    none = typed("images")
    lab.docker.build(APP, "v1")
    background.do(lab.pull("shop/api:dev"))
    lab.docker.build(APP, "v2")
    long = f"a-team/{'long-' * 20}name:dev"
    lab.docker.build(f"{NAME}/{long}", "v1")

    said = typed("images")

    assert none.stderr == f"no image yet: docker build -t {NAME}/app:dev .\n"
    heads, first, second = (line.split() for line in said.stdout.splitlines())
    assert heads == ["IMAGE", "STATE", "DOCKER", "REGISTRY", "NODES", "PUSHED", "PULLED"]
    assert first[:2] == [long, "only-in-docker"]
    assert second[:2] == ["shop/api:dev", "behind"]
    assert "0/1" in second


def test_images_as_json_is_pinned(lab: Lab, typed: Type) -> None:
    image = lab.docker.build(APP, "v1")
    lab.nodes.images = {node("a"): {}}

    said = json.loads(typed("images", "--json").stdout)

    assert said == {
        "name": NAME,
        "images": [
            {
                "image": "shop/api:dev",
                "docker": image.digest,
                "registry": "",
                "nodes": [
                    {
                        "cluster": node("a").cluster,
                        "node": "a",
                        "digest": "",
                        "is_current": False,
                        "is_known": True,
                    }
                ],
                "state": "only-in-docker",
                "because": "Docker's image is missing from the registry",
                "size": 1000,
                "pushed_at": None,
                "pulled_at": None,
            }
        ],
    }


@pytest.mark.parametrize(
    ("built", "pulled", "rebuilt", "words"),
    [
        (False, False, False, ["nowhere", "404", f"docker build -t {APP} ."]),
        (
            True,
            False,
            False,
            ["only-in-docker", "waits until Docker has pushed", "autoregistry push shop"],
        ),
        (True, True, False, ["in-step", "answered immediately"]),
        (
            True,
            True,
            True,
            ["behind", "waits until Docker has pushed", " s ago", "containerd/2.3.7"],
        ),
    ],
    ids=["nowhere", "only in Docker", "in step", "behind"],
)
def test_why_says_what_the_next_pull_will_do(
    lab: Lab,
    typed: Type,
    background: Background,
    *,
    built: bool,
    pulled: bool,
    rebuilt: bool,
    words: list[str],
) -> None:
    if built:
        lab.docker.build(APP, "v1")
    if pulled:
        background.do(lab.pull("shop/api:dev"))
    if rebuilt:
        lab.docker.build(APP, "v2")

    said = typed("why", APP)

    assert said.exit_code == 0, said.output
    assert said.stdout.startswith(f"{APP}  {words[0]}: ")
    for word in words:
        assert word in said.stdout


def test_why_tells_when_the_callers_docker_is_not_the_one_that_is_watched(
    lab: Lab, typed: Type
) -> None:
    lab.docker.build(APP, "v1")

    assert "is not the one that is watched: docker context ls" in typed("why", APP).stdout


def test_why_does_without_a_docker_of_its_own(
    lab: Lab, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens/there.sock")
    lab.docker.build(APP, "v1")

    said = typed("why", APP)

    assert said.exit_code == 0
    assert "your Docker                              cannot be asked from here" in said.stdout


@pytest.mark.parametrize(
    ("platforms", "architecture", "remark"),
    [
        (("linux/amd64",), "amd64", "linux/amd64"),
        (
            ("linux/arm64",),
            "amd64",
            "is for linux/arm64, and the nodes are amd64: docker build --platform linux/amd64",
        ),
        (("linux/amd64", "linux/arm64"), "amd64", "linux/amd64, linux/arm64"),
        ((), "amd64", ""),
        (("linux/arm64",), "", "linux/arm64"),
    ],
)
def test_an_image_that_no_node_can_run_is_named(
    platforms: tuple[str, ...], architecture: str, remark: str
) -> None:
    assert ImageFacts("sha256:1", platforms, architecture, ()).remark() == remark


def test_push_names_an_image_that_no_node_can_run(lab: Lab, typed: Type) -> None:
    lab.nodes.images = {node("a"): {}}
    lab.docker.platform = "linux/arm64"
    lab.docker.build(APP, "v1")
    remark = "shop/api:dev  is for linux/arm64, and the nodes are amd64"

    first, again = typed("push", APP), typed("push", APP)

    assert first.exit_code == again.exit_code == 0
    assert remark in first.stderr
    assert remark in again.stderr
    assert [f"{remark}: docker build --platform linux/amd64"] == [
        event.sentence for event in lab.events if isinstance(event, Notice)
    ]


def test_why_names_the_nodes_that_are_down_or_silent(lab: Lab, typed: Type) -> None:
    down, elsewhere = (replace(node(*n), is_running=False) for n in (("c",), ("x", "other")))
    lab.nodes.images = {node("a"): {}, node("b"): {}}
    lab.nodes.silent, lab.nodes.others = {"b"}, [down, elsewhere]
    lab.docker.build(APP, "v1")

    lines = [line.split() for line in typed("why", APP).stdout.splitlines()]

    assert ["b", "-", "does", "not", "answer"] in lines
    assert ["c", "stopped;", "it", "follows", "when", "it", "comes", "back"] in lines
    assert "x" not in [words[0] for words in lines]


def test_why_of_what_is_no_image_of_ours_is_wrong_usage(lab: Lab, typed: Type) -> None:
    said = typed("why", "NOT AN IMAGE")

    assert said.exit_code == 2
    assert said.stderr.endswith("hint: autoregistry images\n")


@pytest.mark.parametrize("words", [["images"], ["why", APP], ["push", APP], ["watch"]])
def test_a_proxy_that_is_not_there_is_one_error(
    typed: Type, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("AUTOREGISTRY_NAME", "localhost:9")

    said = typed(*words)

    assert said.exit_code == 1
    assert said.stderr.startswith("error: the proxy at localhost:9 cannot be asked: ")
    assert said.stderr.endswith("hint: autoregistry status\n")


def test_status_of_a_serve_in_the_foreground_asks_for_no_containers(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")
    typed("push", "shop/api:dev")
    port = lab.proxy.server.addresses[0][1]

    shown = typed("status").stdout.splitlines()

    assert shown[0] == f"  registry             localhost:{port}  autoregistry serve"
    assert shown[2].startswith("  pushed               shop/api:dev  ")
    assert len(shown) == 3


def test_status_of_a_serve_that_does_not_answer_says_what_to_type(
    typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOREGISTRY_NAME", "localhost:9")

    last = typed("status").stdout.splitlines()[-1]
    assert last == "not up as it should be; try: autoregistry serve --listen 127.0.0.1:9"
