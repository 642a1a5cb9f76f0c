"""A Docker in memory, with either image store. It pushes over HTTP through the proxy, as the real one does."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpx

from autoregistry.decision import LocalImage
from autoregistry.engine.events import ContainerEvent, ImageEvent
from autoregistry.engine.images import Images
from autoregistry.engine.streams import Progress
from autoregistry.errors import AutoregistryError, DockerUnreachable, PushRefused
from tests.fakes.registry import digest_of
from tests.helpers.plain_http import PLAIN

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
NONCE = "5eaf00d5eaf00d55"


def user_agent(push_id: str, nonce: str = NONCE) -> str:
    """Return the user agent of the daemon's requests to the registry in one of our pushes."""
    return rf"docker/28.5.2 go/go1.24 UpstreamClient(autoregistry/0.1.0 \({nonce}\) push/{push_id})"


@contextmanager
def _push_errors() -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as exc:
        raise PushRefused(str(exc)) from exc


@dataclass
class FakeImage:
    """An image, as a manifest. The classic store identifies it by the digest of the config."""

    content: str
    tagged_at: float = 0.0

    @property
    def config(self) -> str:
        return digest_of(f"config of {self.content}".encode())

    @property
    def manifest(self) -> bytes:
        config = {"digest": self.config, "size": 1, "mediaType": "application/json"}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config}
        ).encode()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


@dataclass
class FakeDocker(Images):
    """Implements the methods that the proxy uses, and event streams."""

    store: str = "containerd"
    images: dict[str, FakeImage] = field(default_factory=dict)
    proxy: str = ""
    """The URL that its pushes go to."""
    error: AutoregistryError | None = None
    """Raised by every method while it is set."""
    errors: int = 0
    """The number of times that it was raised."""
    push_error: str = ""
    push_errors: dict[str, str] = field(default_factory=dict)
    """By reference: the error of each of its pushes."""
    crash: Exception | None = None
    """An unexpected error that every push raises."""
    fails_once: set[str] = field(default_factory=set)
    """References whose next push fails."""
    push_seconds: float = 0.0
    may_push: threading.Event = field(default_factory=threading.Event)
    """Set unless a test clears it. Pushes wait for it before they set their tag."""
    inspect_seconds: float = 0.0
    pushed: list[tuple[str, str]] = field(default_factory=list)
    """(reference, content) of every push that was started."""
    inspected: list[str] = field(default_factory=list)
    listed: int = 0
    """The number of times that it listed digests."""
    platform: str = "linux/amd64"
    """The platform of its images."""
    buildx: list[str] = field(default_factory=list)
    """Builders that keep their images."""
    before_push: Callable[[], None] = lambda: None
    before_push_ends: Callable[[], None] = lambda: None
    events: queue.Queue[ImageEvent | ContainerEvent | AutoregistryError] = field(
        default_factory=queue.Queue
    )
    in_push: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_push.set()

    def build(self, reference: str, content: str, *, report: bool = False) -> FakeImage:
        """Add an image. `report` also sends the event."""
        self.images[reference] = image = FakeImage(content, time.time())
        if report:
            self.events.put(ImageEvent(reference, self._identity(image), time.time_ns()))
        return image

    def _identity(self, image: FakeImage) -> str:
        return image.digest if self.store == "containerd" else image.config

    def _check(self) -> None:
        if self.error:
            self.errors += 1
            raise self.error

    def ping(self) -> bool:
        self._check()
        return True

    def daemon_identity(self) -> str:
        self._check()
        return "the only Docker"

    def inspect(self, reference: str, *, children: bool = False) -> LocalImage | None:
        time.sleep(self.inspect_seconds)
        self._check()
        self.inspected.append(reference)
        if (image := self.images.get(reference)) is None:
            return None
        return LocalImage(self._identity(image), tagged_at=image.tagged_at)

    def digests(self, repositories: Iterable[str]) -> dict[str, set[str]]:
        self._check()
        self.listed += 1
        prefixes = tuple(f"{repository}:" for repository in repositories)
        return {
            name: {image.digest} for name, image in self.images.items() if name.startswith(prefixes)
        }

    def sizes(self, registries: Iterable[str]) -> dict[str, int]:
        self._check()
        prefixes = tuple(f"{registry}/" for registry in registries)
        return {name: 1000 for name in self.images if name.startswith(prefixes)}

    def platforms(self, reference: str) -> list[str]:
        self._check()
        return [self.platform] if reference in self.images else []

    def architecture(self) -> str:
        self._check()
        return "amd64"

    def builders(self) -> list[str]:
        self._check()
        return self.buildx

    def names_of(self, identity: str) -> list[str]:
        self._check()
        return [name for name, image in self.images.items() if self._identity(image) == identity]

    def push(
        self, reference: str, on_progress: Callable[[Progress], None], push_id: str = ""
    ) -> Progress:
        self._check()
        if (image := self.images.get(reference)) is None:
            raise PushRefused(f"no such image: {reference}")
        self.pushed.append((reference, image.content))
        self.in_push.set()
        progress = Progress({"layer": (500, 1000)})
        on_progress(progress)
        time.sleep(self.push_seconds)
        self.may_push.wait(20)
        self._check()
        self.before_push()
        if self.crash:
            raise self.crash
        if error := self.push_errors.get(reference, self.push_error):
            raise PushRefused(error)
        if reference in self.fails_once:
            self.fails_once.remove(reference)
            raise PushRefused("blob unknown to registry")
        repository, _, tag = reference.partition("/")[2].rpartition(":")
        url = f"{self.proxy}/v2/{repository}/manifests/{tag}"
        headers = {"User-Agent": user_agent(push_id)}
        with _push_errors(), httpx.Client(headers=headers, trust_env=False, verify=PLAIN) as client:
            if self.store == "containerd":  # its first request would wait for its own push
                client.head(url, headers={"Accept": f"{MANIFEST_TYPE}, */*"})
            response = client.put(
                url, content=image.manifest, headers={"Content-Type": MANIFEST_TYPE}
            )
        if response.status_code != 201:
            raise PushRefused(f"received unexpected HTTP status: {response.status_code}")
        self.before_push_ends()
        progress.digest = image.digest
        progress.layers["layer"] = (1000, 1000)
        return progress

    def follow(
        self, since_nanoseconds: int | None
    ) -> Generator[ImageEvent | ContainerEvent | None, None, None]:
        self._check()
        yield None
        while not isinstance(item := self.events.get(), AutoregistryError):
            yield item
        raise item

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """End the event stream when the context ends, or its thread would take the events of the next follower."""
        try:
            yield
        finally:
            self.events.put(DockerUnreachable("the test is over"))
            await asyncio.to_thread(self._until_read)

    def _until_read(self) -> None:
        deadline = time.monotonic() + 1
        while not self.events.empty() and time.monotonic() < deadline:
            time.sleep(0.001)

    def go_away(self) -> None:
        """Behave as if stopped: the event stream ends, and every call fails."""
        self.error = DockerUnreachable("Docker does not answer")
        self.events.put(self.error)
