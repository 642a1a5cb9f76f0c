"""The output of `watch`, `push`, `images`, `why` and `status` for a running proxy that is reached by its port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoregistry.cli.docker import ImageFacts
from autoregistry.events import Notice
from autoregistry.names import RegistryNames
from autoregistry.settings import Address, Settings
from tests.fakes.docker import FakeDocker
from tests.fakes.engine import FakeEngine
from tests.fakes.nodes import node
from tests.fakes.registry import FakeRegistry
from tests.helpers.commands import Type
from tests.helpers.event_loop import ThreadedLoop
from tests.helpers.proxy_lab import NAME, Lab

APP = f"{NAME}/shop/api:dev"


@pytest.fixture
def lab(tmp_path: Path, background: ThreadedLoop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
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


def test_push_prints_the_result_of_each_image(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")

    first, again = typed("push", "shop/*"), typed("push", "shop/api:dev")

    assert first.exit_code == again.exit_code == 0
    assert first.stdout.startswith("shop/api:dev  pushed 0.0 MB in ")
    assert again.stdout == "shop/api:dev  the registry has Docker's image\n"


def test_a_failed_push_is_an_error_with_its_cause(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")
    lab.docker.push_error = "no space left on device"

    result = typed("push", "shop/api:dev")

    assert result.exit_code == 1
    assert "shop/api:dev  no space left on device" in result.stderr
    assert result.stderr.endswith(
        "error: could not be pushed: shop/api:dev\nhint: autoregistry logs --tail 20\n"
    )


def test_pushing_an_image_that_docker_does_not_have_is_an_error(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")

    result = typed("push", "shop/*", "other:dev")

    assert result.exit_code == 1
    assert result.stdout.startswith("shop/api:dev  pushed ")
    assert result.stderr.endswith(
        "error: Docker has no image that matches other:dev\nhint: autoregistry images\n"
    )


def test_images_compares_docker_the_registry_and_the_nodes(
    lab: Lab, typed: Type, background: ThreadedLoop
) -> None:
    lab.nodes.images = {node("a"): {APP: frozenset({"sha256:old"})}}
    none = typed("images")
    lab.docker.build(APP, "v1")
    background.do(lab.pull("shop/api:dev"))
    lab.docker.build(APP, "v2")
    long = f"a-team/{'long-' * 20}name:dev"
    lab.docker.build(f"{NAME}/{long}", "v1")

    result = typed("images")

    assert none.stderr == f"no images yet; run: docker build -t {NAME}/app:dev .\n"
    heads, first, second = (line.split() for line in result.stdout.splitlines())
    assert heads == ["IMAGE", "STATE", "DOCKER", "REGISTRY", "NODES", "PUSHED", "PULLED"]
    assert first[:2] == [long, "only-in-docker"]
    assert second[:2] == ["shop/api:dev", "behind"]
    assert "0/1" in second


def test_the_json_of_images_is_stable(lab: Lab, typed: Type) -> None:
    image = lab.docker.build(APP, "v1")
    lab.nodes.images = {node("a"): {}}

    result = json.loads(typed("images", "--json").stdout)

    assert result == {
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
def test_why_describes_the_next_pull(
    lab: Lab,
    typed: Type,
    background: ThreadedLoop,
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

    result = typed("why", APP)

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{APP}  {words[0]}: ")
    for word in words:
        assert word in result.stdout


def test_why_reports_that_the_registry_uses_another_docker(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")

    assert (
        "is not the Docker that the registry uses; run: docker context ls"
        in typed("why", APP).stdout
    )


def test_why_works_without_a_local_docker(
    lab: Lab, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/docker.sock")
    lab.docker.build(APP, "v1")

    result = typed("why", APP)

    assert result.exit_code == 0
    assert (
        "your Docker                              does not answer; run: docker info"
        in result.stdout
    )


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
def test_a_platform_that_no_node_can_run_is_reported(
    platforms: tuple[str, ...], architecture: str, remark: str
) -> None:
    assert ImageFacts("sha256:1", platforms, architecture, ()).remark() == remark


def test_push_warns_of_a_platform_that_no_node_can_run(lab: Lab, typed: Type) -> None:
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


def test_why_lists_nodes_that_are_stopped_or_do_not_answer(lab: Lab, typed: Type) -> None:
    down, elsewhere = (replace(node(*n), is_running=False) for n in (("c",), ("x", "other")))
    lab.nodes.images = {node("a"): {}, node("b"): {}}
    lab.nodes.silent, lab.nodes.others = {"b"}, [down, elsewhere]
    lab.docker.build(APP, "v1")

    lines = [line.split() for line in typed("why", APP).stdout.splitlines()]

    assert ["b", "-", "does", "not", "answer"] in lines
    assert ["c", "stopped;", "it", "is", "updated", "when", "it", "starts", "again"] in lines
    assert "x" not in [words[0] for words in lines]


def test_why_of_an_invalid_name_is_a_usage_error(lab: Lab, typed: Type) -> None:
    result = typed("why", "NOT AN IMAGE")

    assert result.exit_code == 2
    assert result.stderr.endswith("hint: autoregistry images\n")


@pytest.mark.parametrize("words", [["images"], ["why", APP], ["push", APP], ["watch"]])
def test_commands_report_a_proxy_that_does_not_answer(
    typed: Type, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("AUTOREGISTRY_NAME", "localhost:9")

    result = typed(*words)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: the proxy at localhost:9 does not answer: ")
    assert result.stderr.endswith("hint: autoregistry status\n")


@pytest.mark.parametrize("words", [["images"], ["why", APP], ["push", APP], ["watch"]])
def test_commands_report_that_the_stack_is_not_running(
    engine: FakeEngine, typed: Type, words: list[str]
) -> None:
    result = typed(*words)

    assert result.exit_code == 1
    assert result.stderr == "error: autoregistry is not running\nhint: autoregistry up\n"


def test_status_of_a_serve_in_the_foreground_shows_no_containers(lab: Lab, typed: Type) -> None:
    lab.docker.build(APP, "v1")
    typed("push", "shop/api:dev")
    port = lab.proxy.server.addresses[0][1]

    lines = typed("status").stdout.splitlines()

    assert lines[0] == f"  registry             localhost:{port}  autoregistry serve"
    assert lines[2].startswith("  pushed               shop/api:dev  ")
    assert len(lines) == 3


def test_status_of_a_serve_that_does_not_answer_ends_with_the_command_to_start_it(
    typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOREGISTRY_NAME", "localhost:9")

    last = typed("status").stdout.splitlines()[-1]
    assert last == "the registry is not working; run: autoregistry serve --listen 127.0.0.1:9"
