"""The composition root: builds one proxy from its parts and runs it."""

from __future__ import annotations

import asyncio
import resource
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from autoregistry import __version__, api_paths
from autoregistry.cluster.addresses import restore_addresses
from autoregistry.cluster.attach import Attachment, leave_deleted_clusters
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.cluster.nodes import Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import follow_events
from autoregistry.engine.images import Images, trigger_registry_lookup
from autoregistry.engine.networks import Networks
from autoregistry.errors import DockerUnreachable
from autoregistry.events import (
    Emit,
    Event,
    ManualPushSeen,
    NodeRefreshed,
    Notice,
    PushFinished,
    PushStarted,
)
from autoregistry.names import Image
from autoregistry.proxy.api import page
from autoregistry.proxy.api.actions import Actions
from autoregistry.proxy.api.event_stream import EventStream
from autoregistry.proxy.api.history import History, save_regularly
from autoregistry.proxy.api.inventory import Inventory
from autoregistry.proxy.api.metrics import Metrics
from autoregistry.proxy.api.node_inventory import NodeInventory
from autoregistry.proxy.api.status import Status
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.background import Background
from autoregistry.proxy.http.server import SHUTDOWN_SECONDS, Endpoint, Server
from autoregistry.proxy.pull.core import Core
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.handler import PullHandler
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.proxy.pull.state_file import folder_for
from autoregistry.proxy.pull.uploads import Uploads
from autoregistry.proxy.watch.async_nodes import AsyncNodes
from autoregistry.proxy.watch.auto_attach import AutoAttach
from autoregistry.proxy.watch.builds import BuildWatcher
from autoregistry.proxy.watch.docker_events import DockerEvents
from autoregistry.proxy.watch.docker_events import EventStream as DockerEventStream
from autoregistry.proxy.watch.loopback_check import LoopbackCheck
from autoregistry.proxy.watch.network_repair import NetworkRepair
from autoregistry.proxy.watch.node_refresh import NodeRefresher
from autoregistry.proxy.watch.node_starts import NodeStartWatcher
from autoregistry.proxy.watch.platform_check import PlatformCheck
from autoregistry.proxy.watch.pod_events import PodEvents
from autoregistry.proxy.watch.socket_check import until_dead
from autoregistry.settings import Settings
from autoregistry.stack.model import BACKEND, PROXY

_USER_AGENT = f"autoregistry/{__version__}"


@dataclass(frozen=True, slots=True)
class Docker:
    """The parts of Docker that a proxy uses; tests replace them."""

    images: Images
    events: DockerEventStream
    nodes: Nodes
    nonce: str
    """Part of the user agent of our pushes, by which the proxy recognises them."""
    trigger_lookup: Callable[[str], None] | None = None
    """Makes the daemon query a registry; None to skip the loopback check."""
    socket_refuses: Callable[[], bool] | None = None
    """Returns True if no process listens at Docker's local socket; None to skip the check."""
    network_repair: Callable[[Settings, Emit, Background], NetworkRepair] | None = None
    auto_attach: Callable[[Settings, Emit, Background], AutoAttach] | None = None


def real_docker() -> Docker:
    """Return the daemon that Docker's own tools would find."""
    nonce = secrets.token_hex(8)
    daemon = Daemon(f"{_USER_AGENT} ({nonce})")
    return Docker(
        Images(daemon),
        partial(follow_events, daemon),
        Nodes(Containers(daemon)),
        nonce,
        partial(trigger_registry_lookup, daemon),
        daemon.refuses,
        partial(network_repair, daemon),
        # Without the nonce: the pulls of its check are not our own pushes.
        partial(auto_attach, Daemon(_USER_AGENT)),
    )


def network_repair(
    daemon: Daemon, settings: Settings, emit: Emit, background: Background
) -> NetworkRepair:
    """Return the repair of the networks of all clusters of this daemon, attached or not."""
    containers, networks = Containers(daemon), Networks(daemon)
    return NetworkRepair(
        partial(restore_addresses, containers),
        partial(leave_deleted_clusters, containers, networks, (BACKEND, PROXY)),
        _attachment(daemon, settings).rejoin,
        emit,
        background,
    )


def auto_attach(
    daemon: Daemon, settings: Settings, emit: Emit, background: Background
) -> AutoAttach:
    """Return the watcher that attaches every cluster that starts."""
    nodes = Nodes(Containers(daemon))

    def running_clusters() -> list[str]:
        return sorted({node.cluster for node in nodes.all() if node.is_running})

    return AutoAttach(running_clusters, _attachment(daemon, settings).attach, emit, background)


def _attachment(daemon: Daemon, settings: Settings) -> Attachment:
    """A proxy in a container joins the cluster's network, with its backend; otherwise nodes use the host's address."""
    containers = Containers(daemon)
    members = (BACKEND, settings.container) if settings.container else ()
    mirror = Mirror.of(settings.names.port, settings.container)
    return Attachment(containers, Networks(daemon), mirror, members)


class EventBus:
    """Hands every event to its subscribers, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._handlers: list[Emit] = []
        self._is_reporting = False
        self.is_hidden: Callable[[Event], bool] = lambda _: False
        """Returns True for events that no subscriber gets."""

    def subscribe(self, handler: Emit) -> None:
        self._handlers.append(handler)

    def emit(self, event: Event) -> None:
        """Call every subscriber; from the event loop's thread."""
        if self.is_hidden(event):
            return
        for handler in self._handlers:
            try:
                handler(event)
            except Exception as exc:  # an error of one subscriber must not end the work that emits
                if not self._is_reporting:
                    self._is_reporting = True
                    name = getattr(handler, "__qualname__", str(handler))
                    self.emit(Notice(f"internal error in {name} ({type(exc).__name__}: {exc})"))
                    self._is_reporting = False


class Proxy:
    """A proxy and its parts. `start` begins to listen; leaving `exits` ends everything, in reverse order."""

    def __init__(self, settings: Settings, docker: Docker, show: Emit) -> None:
        self.exits = AsyncExitStack()
        self._bus = EventBus()
        self._history = History()
        self._stream = EventStream(self._history)
        self._metrics = Metrics()
        for subscriber in (show, self._stream.emit, self._metrics.take):
            self._bus.subscribe(subscriber)
        self.core = self._build_core(settings, docker)
        self._build_watchers(docker)
        self._build_server(docker.nonce)

    def _build_core(self, settings: Settings, docker: Docker) -> Core:
        """One pull: journal, backend, Docker, pushes."""
        emit, asked = self._bus.emit, self._metrics.asked
        state = folder_for(settings.names.primary, settings.state)
        journal = Journal(state, lambda sentence: emit(Notice(sentence)))
        self.exits.callback(journal.close)
        self._history.open(journal.file)
        self.exits.callback(self._history.save)
        idle = settings.limits.idle_seconds
        backend = Backend(settings.backend, partial(asked, "backend"), idle)
        self.exits.push_async_callback(backend.close)
        images = AsyncDocker(docker.images, settings.names, partial(asked, "docker"))
        self.exits.callback(images.close)
        pushes = Pushes(images, backend, journal, emit)
        return Core(settings, images, backend, journal, pushes, emit, Background(emit))

    def _build_watchers(self, docker: Docker) -> None:
        """Work that no client waits for."""
        core, settings, emit = self.core, self.core.settings, self._bus.emit
        nodes = AsyncNodes(docker.nodes, settings.names, core.background)
        self._events = DockerEvents(docker.events, core.journal, emit)
        self._refresher = NodeRefresher(nodes, emit, restarts=settings.restart_workloads)
        self._bus.subscribe(PodEvents(nodes).handle)
        self._platforms = PlatformCheck(core.docker, nodes, emit)
        self._held = NodeInventory(nodes)
        self._bus.subscribe(self._react)
        self._loopback: LoopbackCheck | None = None
        if docker.trigger_lookup is not None:
            self._loopback = LoopbackCheck(
                docker.trigger_lookup, settings.names.primary, emit, core.background
            )
            self._bus.is_hidden = self._loopback.recognises
        if settings.watch:
            self._events.subscribe(BuildWatcher(core).handle)
        if settings.refresh:
            starts = NodeStartWatcher(nodes, core.backend, self._refresher)
            self._events.subscribe(starts.handle)
        self._repair: NetworkRepair | None = None
        if docker.network_repair is not None:
            self._repair = docker.network_repair(settings, emit, core.background)
            self._events.subscribe(self._repair.handle)
        if settings.attach_all and docker.auto_attach is not None:
            self._events.subscribe(docker.auto_attach(settings, emit, core.background).handle)

    def _react(self, event: Event) -> None:
        """Connect the parts: a changed tag goes to the nodes, a push is checked for its platform."""
        match event:
            case PushFinished(image, _, digest) | ManualPushSeen(image, _, digest):
                if self.core.settings.refresh:
                    self._refresher.changed(image, digest)
            case PushStarted(image):
                self._platforms.check(image)
            case NodeRefreshed():
                self._held.invalidate()

    def _build_server(self, nonce: str) -> None:
        """HTTP, and the proxy's own endpoints."""
        core = self.core
        inventory = Inventory(core, self._held)
        status = Status(core, inventory, self._stream, self._loopback)
        actions = Actions(core, inventory, self._refresher, self._platforms, self._history)
        pages: dict[tuple[str, str], Endpoint] = {
            ("GET", "/"): page.root,
            ("GET", api_paths.PREFIX): page.redirect,
            ("GET", api_paths.PAGE): page.page,
            ("GET", api_paths.HEALTH): status.health,
            ("GET", api_paths.STATUS): status.status,
            ("GET", api_paths.EVENTS): self._stream.events,
            ("GET", api_paths.METRICS): self._metrics.metrics,
            ("POST", api_paths.PUSH): actions.push,
            ("POST", api_paths.REFRESH): actions.refresh,
        }
        self.server = Server(
            core.settings,
            core.backend,
            PullHandler(core),
            Uploads(core),
            core.emit,
            pages,
            nonce=nonce,
        )
        gauge = self._metrics.gauge
        gauge("pushes_running", "Pushes in progress.", lambda: len(self._stream.running))
        gauge("docker_up", "Docker responds.", lambda: core.docker.is_answering)
        about = "Docker's event stream is connected."
        gauge("docker_events_connected", about, lambda: self._events.is_connected)
        gauge("tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
        gauge("listeners", "Clients of the event stream.", lambda: self._stream.listeners)

    async def start(self) -> None:
        """Listen, and begin the background work. Raises ListenFailed."""
        self.exits.push_async_callback(self.core.background.stop)
        self.exits.push_async_callback(self.stop, 0)
        run = self.core.background.permanently
        run("journal", partial(save_regularly, self.core.journal, self._history))
        await self.server.start()
        run("docker-events", self._events.run)
        if self._repair is not None:
            run("network-repair", self._repair.run)
        if self._loopback is not None:
            run("loopback-check", self._loopback.run)

    async def stop(self, push_seconds: float = SHUTDOWN_SECONDS) -> list[Image]:
        """Finish the pushes and responses in progress, within SHUTDOWN_SECONDS. Return the unfinished pushes."""
        began = time.monotonic()
        unfinished = await self.core.pushes.drain(push_seconds)
        self._stream.close()
        await self.server.stop(max(0.5, SHUTDOWN_SECONDS - (time.monotonic() - began)))
        return unfinished


@asynccontextmanager
async def running(settings: Settings, docker: Docker, show: Emit) -> AsyncIterator[Proxy]:
    """Run a proxy for as long as the context lasts. Raises ListenFailed, StateInUse."""
    proxy = Proxy(settings, docker, show)
    async with proxy.exits:
        await proxy.start()
        yield proxy


def run(settings: Settings, show: Emit) -> None:
    """Run a proxy on the Docker that its tools would find, as `serve` does."""
    raise_descriptors()
    asyncio.run(serve(settings, real_docker(), show))


async def serve(settings: Settings, docker: Docker, show: Emit) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in progress.

    Raises ListenFailed; in a container, raises DockerUnreachable when Docker's socket is dead.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings, docker, show) as proxy:
        where = ", ".join(str(address) for address in settings.listen)
        show(Notice(f"{settings.names.primary} is served at {where}; backend {settings.backend}"))
        ends: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        # Only the container of `up` and compose has a restart policy, which mounts the socket again.
        if settings.container == PROXY and docker.socket_refuses:
            ends.append(asyncio.create_task(until_dead(docker.socket_refuses)))
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for image in await proxy.stop():
            show(Notice(f"{image}  its push was cut off, the next pull starts it again"))
    if not stop.is_set():
        raise DockerUnreachable(
            "Docker's socket in this container refuses connections; a restart mounts the socket anew",
            "autoregistry up",
        )


def raise_descriptors() -> None:
    """Raise the limit of open files to the hard limit: a shell's usual 1024 is less than our connection limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS reports unlimited, and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
