"""Nodes: the causes of failed commands, availability, and mirrors."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoregistry.cluster.mirror_config import REGISTRIES_PATH, hosts_path
from autoregistry.cluster.nodes import Node, Nodes
from autoregistry.engine.containers import Containers, ExecResult
from autoregistry.errors import ClusterRefused, DockerUnreachable
from tests.fakes.nodefiles import NodeFiles
from tests.fakes.nodes import node

NAME = "localhost:5000"
IMAGE = f"{NAME}/app:dev"
HOSTS_TOML = 'server = "http://autoregistry:5000"\n'
YAML = f"mirrors: {{'{NAME}': {{endpoint: ['http://autoregistry:5000']}}}}\n"


class Silent(Containers):
    """Containers in which every command has this result; with None, Docker does not answer."""

    def __init__(self, ran: ExecResult | None) -> None:
        self._ran = ran

    def exec(self, *_: object, **__: object) -> ExecResult:
        if self._ran is None:
            raise DockerUnreachable("Docker does not answer at unix:///docker.sock: timed out")
        return self._ran


@pytest.mark.parametrize(
    ("stderr", "cause"),
    [
        pytest.param(
            'time="2026-01-01T00:00:00Z" level=fatal msg="pulling image: failed to pull and unpack image'
            ' \\"localhost:5000/app:dev\\": failed to copy: write /a/data: no space left on device"',
            "failed to copy: write /a/data: no space left on device",
            id="the disk is full",
        ),
        pytest.param(
            'E0101 00:00:00 1 log.go:32] "PullImage from image service failed" err="rpc error: code = NotFound'
            ' desc = failed to pull and unpack image \\"localhost:5000/app:dev\\": failed to resolve reference'
            ' \\"localhost:5000/app:dev\\": localhost:5000/app:dev: not found" image="localhost:5000/app:dev"',
            "localhost:5000/app:dev: not found",
            id="as older versions end",
        ),
        pytest.param("killed", "killed", id="something else"),
        pytest.param("", "no error message", id="nothing"),
    ],
)
def test_the_cause_of_a_failed_pull_is_reported_without_its_prefixes(
    stderr: str, cause: str
) -> None:
    with pytest.raises(ClusterRefused) as raised:
        Nodes(Silent(ExecResult(1, "", stderr))).pull(node("a"), IMAGE)

    assert raised.value.message == f"a cannot pull {IMAGE}: {cause}"


def test_the_error_of_a_node_that_hangs_names_the_node_and_not_docker() -> None:
    with pytest.raises(ClusterRefused) as raised:
        Nodes(Silent(None)).images_on(node("a"))

    assert raised.value.message == "a did not answer crictl images"


@pytest.mark.parametrize(
    ("state", "expected"),
    [("running", ""), ("paused", "it is paused"), ("exited", "it is not running")],
)
def test_a_node_gives_the_reason_why_it_is_unavailable(state: str, expected: str) -> None:
    stopped = Node("dev", "a", "agent", "net", state == "running", "k3s", state)

    assert expected == stopped.unavailable_because


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({hosts_path(NAME): HOSTS_TOML}, ["http://autoregistry:5000"], id="hosts.toml"),
        pytest.param(
            {REGISTRIES_PATH: YAML, hosts_path("docker.io"): HOSTS_TOML}, [], id="registries.yaml"
        ),
        pytest.param({hosts_path(NAME): "server = http"}, [], id="not TOML"),
        pytest.param({}, [], id="nothing"),
    ],
)
def test_the_endpoints_of_a_node_are_read_from_its_files(
    tmp_path: Path, files: dict[str, str], expected: list[str]
) -> None:
    engine = NodeFiles(tmp_path)
    for path, text in files.items():
        engine.put_file("a", path, text)

    assert Nodes(engine).endpoints(node("a"), NAME) == expected
