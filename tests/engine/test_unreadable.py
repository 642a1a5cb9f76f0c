"""A response of Docker that cannot be read is DockerRefused, as any other answer that we cannot use."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from autoregistry.engine.build import build_image, pull_image
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import follow_events
from autoregistry.engine.images import Images
from autoregistry.engine.networks import Networks, Volumes
from autoregistry.errors import DockerRefused
from tests.fakes.engine import FakeEngine

NAME = "localhost:5000/app:dev"


def _ignore(*_: object) -> None:
    pass


CALLS: dict[str, tuple[str, Callable[[Daemon], object]]] = {
    "info": ("/info", lambda d: d.info()),
    "image": (f"/images/{NAME}/json", lambda d: Images(d).inspect(NAME)),
    "image names": ("/images/sha256:1/json", lambda d: Images(d).names_of("sha256:1")),
    "image platforms": (f"/images/{NAME}/json", lambda d: Images(d).platforms(NAME)),
    "digests": ("/images/json", lambda d: Images(d).digests(["localhost:5000/app"])),
    "sizes": ("/images/json", lambda d: Images(d).sizes(["localhost:5000"])),
    "label": ("/images/json", lambda d: Images(d).labelled("a=b")),
    "builders": ("/containers/json", lambda d: Images(d).builders()),
    "registry": (f"/distribution/{NAME}/json", lambda d: Images(d).digest_in_registry(NAME)),
    "push": ("/images/localhost:5000/app/push", lambda d: Images(d).push(NAME, _ignore)),
    "pull": ("/images/create", lambda d: pull_image(d, NAME, _ignore)),
    "build": ("/build", lambda d: build_image(d, NAME, io.BytesIO(), {}, _ignore)),
    "events": ("/events", lambda d: list(follow_events(d, 0))),
    "container": ("/containers/c/json", lambda d: Containers(d).inspect("c")),
    "containers": ("/containers/json", lambda d: Containers(d).list("app=k3d")),
    "exec": ("/containers/c/exec", lambda d: Containers(d).exec("c", ["true"])),
    "network Id": ("/networks/n", lambda d: Networks(d).identity("n")),
    "network labels": ("/networks/n", lambda d: Networks(d).labels("n")),
    "network members": ("/networks/n", lambda d: Networks(d).members("n")),
    "network subnet": ("/networks/n", lambda d: Networks(d).subnet("n")),
    "network addresses": ("/networks/n", lambda d: Networks(d).addresses("n")),
    "volume labels": ("/volumes/v", lambda d: Volumes(d).labels("v")),
}
DATA = {
    "truncated": b'{"status": "Pushing", "id": "lay',
    "null": b"null",
    "another type": b'"text"',
}


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine().serving() as serving:
        yield serving


@pytest.mark.parametrize("data", [pytest.param(d, id=name) for name, d in DATA.items()])
@pytest.mark.parametrize(("path", "call"), [pytest.param(*c, id=name) for name, c in CALLS.items()])
def test_response_that_cannot_be_read_is_one_error(
    engine: FakeEngine, path: str, call: Callable[[Daemon], object], data: bytes
) -> None:
    engine.raw[path] = data

    with pytest.raises(DockerRefused, match="cannot read the response of Docker at tcp:") as caught:
        call(engine.daemon)

    assert caught.value.hint == "docker version"


@pytest.mark.parametrize("name", ["push", "pull", "build", "events"])
def test_stream_that_ends_within_a_line_is_an_error_after_its_first_lines(
    engine: FakeEngine, name: str
) -> None:
    path, call = CALLS[name]
    engine.raw[path] = b'{"status": "started"}\r\n{"status": "Pushing", "progressDetail": {"cur'

    with pytest.raises(DockerRefused, match="JSONDecodeError"):
        call(engine.daemon)
