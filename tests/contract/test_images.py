"""One suite for the fake Docker and for the real ones, so that the fake can be trusted."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import ContainerEvent, ImageEvent, follow_events
from autoregistry.engine.images import Images
from autoregistry.errors import DockerUnreachable, PushRefused
from dev import lab
from tests.fakes.docker import FakeDocker
from tests.integration.helpers.serving import build

# Nothing listens there: a push fails immediately.
NOWHERE = "127.0.0.1:9"


@dataclass
class Subject:
    images: Images
    build: Callable[[str, str], object]
    events: Callable[[], Generator[ImageEvent | ContainerEvent | None, None, None]]
    """The events since the subject was created."""
    name: str


@pytest.fixture(
    params=[
        "fake-containerd",
        "fake-classic",
        pytest.param("containerd", marks=pytest.mark.engine),
        pytest.param("classic", marks=pytest.mark.engine),
    ]
)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    name = f"{NOWHERE}/contract-{secrets.token_hex(4)}"
    kind, _, store = request.param.partition("-")
    if kind == "fake":
        fake = FakeDocker(store, proxy=f"http://{NOWHERE}")
        yield Subject(
            fake,
            lambda ref, text: fake.build(ref, text, report=True),
            lambda: fake.follow(None),
            name,
        )
        return
    try:
        docker = lab.docker("classic" if request.param == "classic" else "containerd")
    except lab.LabError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
    daemon = Daemon("contract", {"DOCKER_HOST": docker.host})
    began = time.time_ns()
    yield Subject(
        Images(daemon),
        lambda ref, text: build(docker, ref, text),
        lambda: follow_events(daemon, began),
        name,
    )
    daemon.client().close()


def test_docker_answers_a_ping(subject: Subject) -> None:
    assert subject.images.ping()


def test_image_that_docker_lacks_is_none(subject: Subject) -> None:
    assert subject.images.inspect(f"{subject.name}:no") is None
    assert subject.images.inspect(f"{subject.name}:no", children=True) is None


def test_identity_of_an_image_changes_with_its_content(subject: Subject) -> None:
    subject.build(f"{subject.name}:dev", "v1")
    first = subject.images.inspect(f"{subject.name}:dev")
    again = subject.images.inspect(f"{subject.name}:dev", children=True)
    subject.build(f"{subject.name}:dev", "v2")
    second = subject.images.inspect(f"{subject.name}:dev")

    assert first
    assert again
    assert second
    assert first.identity == again.identity
    assert first.identity != second.identity
    assert first.identity.startswith("sha256:")
    assert first.is_complete
    assert second.tagged_at >= first.tagged_at > 1.6e9


def test_platform_of_an_image_is_that_of_its_builder(subject: Subject) -> None:
    subject.build(f"{subject.name}:dev", "v1")

    architecture = subject.images.architecture()
    assert subject.images.platforms(f"{subject.name}:dev") == [f"linux/{architecture}"]
    assert subject.images.platforms(f"{subject.name}:no") == []


def test_names_are_listed_for_a_registry_and_for_an_identity(subject: Subject) -> None:
    subject.build(f"{subject.name}:dev", subject.name)  # content that no other image has
    image = subject.images.inspect(f"{subject.name}:dev")
    assert image

    assert f"{subject.name}:dev" in subject.images.sizes([NOWHERE])
    assert f"{subject.name}:dev" not in subject.images.sizes(["localhost:5"])
    assert [f"{subject.name}:dev"] == subject.images.names_of(image.identity)
    assert subject.images.names_of("sha256:" + "0" * 64) == []


def test_digests_are_listed_for_the_tags_of_several_repositories(subject: Subject) -> None:
    for name in (f"{subject.name}/a:dev", f"{subject.name}/b:v1", f"{subject.name}/c:dev"):
        subject.build(name, name)

    digests = subject.images.digests(
        [f"{subject.name}/a", f"{subject.name}/b", f"{subject.name}/no"]
    )

    assert set(digests) == {f"{subject.name}/a:dev", f"{subject.name}/b:v1"}
    assert "sha256:" + "0" * 64 not in set().union(*digests.values())
    assert subject.images.digests([f"{subject.name}/no"]) == {}


def test_build_is_reported_under_its_name(subject: Subject) -> None:
    events = subject.events()
    subject.build(f"{subject.name}:dev", "v1")

    with closing(events):
        assert next(events) is None
        images = (event for event in events if isinstance(event, ImageEvent))
        event = next(event for event in images if event.reference == f"{subject.name}:dev")

    assert event.nanoseconds > 1.6e18


def test_push_to_an_unused_port_is_refused_with_a_cause(subject: Subject) -> None:
    subject.build(f"{subject.name}:dev", "v1")

    with pytest.raises(PushRefused, match=r"refused|tls"):
        subject.images.push(f"{subject.name}:dev", lambda _: None)


def test_push_of_an_image_that_docker_lacks_is_refused(subject: Subject) -> None:
    with pytest.raises(PushRefused, match="no"):
        subject.images.push(f"{subject.name}:no", lambda _: None)


def test_stopped_docker_is_unreachable() -> None:
    images = Images(Daemon("contract", {"DOCKER_HOST": "unix:///nowhere/docker.sock"}))

    with pytest.raises(DockerUnreachable) as caught:
        images.inspect("x")

    assert (
        caught.value.message
        == "Docker does not answer at unix:///nowhere/docker.sock: no such file or directory"
    )
    assert caught.value.hint == "docker info"


def test_names_of_many_parts_are_listed(subject: Subject) -> None:
    name = f"{subject.name}/of/a/team/in/a/group:dev"
    subject.build(name, name)

    assert subject.images.sizes([NOWHERE])[name] > 0
