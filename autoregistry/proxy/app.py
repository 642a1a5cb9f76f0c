"""The composition root: one proxy, put together from its parts."""

from __future__ import annotations

import asyncio
import resource
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from autoregistry import __version__
from autoregistry.cluster.addresses import give_back
from autoregistry.cluster.attach import Attachment
from autoregistry.cluster.mirror_config import Mirror
from autoregistry.cluster.network_cleanup import leave_gone
from autoregistry.cluster.node_files import MirrorFiles
from autoregistry.cluster.nodes import CLUSTER_LABEL, ROLE_LABEL, ROLES, Nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.events import container_events, image_events
from autoregistry.engine.images import Images, trigger_registry_lookup
from autoregistry.engine.networks import Networks
from autoregistry.events import (
    Emit,
    Event,
    HandPushSeen,
    NodeRefreshed,
    Notice,
    PushFinished,
    PushStarted,
)
from autoregistry.proxy.api.actions import Actions
from autoregistry.proxy.api.event_stream import EventStream
from autoregistry.proxy.api.history import History, write_down
from autoregistry.proxy.api.inventory import Inventory
from autoregistry.proxy.api.metrics import Metrics
from autoregistry.proxy.api.node_inventory import NodeInventory
from autoregistry.proxy.api.page import Page
from autoregistry.proxy.api.status import Status
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.http.server import OWN_PREFIX, STOP_SECONDS, OwnPage, Server
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.docker import Images as AnyImages
from autoregistry.proxy.pull.handler import PullHandler
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.proxy.watch.auto_attach import AutoAttach
from autoregistry.proxy.watch.builds import BuildWatcher, Follow
from autoregistry.proxy.watch.loopback_check import LoopbackCheck
from autoregistry.proxy.watch.network_repair import NetworkRepair
from autoregistry.proxy.watch.node_refresh import NodeRefresher
from autoregistry.proxy.watch.node_starts import NodeStartWatcher, node_starts
from autoregistry.proxy.watch.platform_check import PlatformCheck
from autoregistry.proxy.watch.pod_events import PodEvents
from autoregistry.settings import Settings
from autoregistry.stack.model import BACKEND, PROXY

_USER_AGENT = f"autoregistry/{__version__}"


@dataclass(frozen=True, slots=True)
class Docker:
    """What a proxy needs of Docker; tests hand in another one."""

    images: AnyImages
    follow: Follow
    nodes: Nodes
    nonce: str
    """What our pushes carry in their user agent, so that they are known when they come back to us."""
    make_daemon_ask: Callable[[str], None] | None = None
    """Has the daemon itself ask a registry; None where the proxy is not to find out whether that is us."""
    tending: Callable[[Settings], NetworkRepair] | None = None
    """What looks after clusters; None where there are no real ones."""
    node_starts: Callable[[str], Iterator[str]] | None = None
    """Follows the nodes of that registry that come back; None where nobody does."""


def real_docker() -> Docker:
    """The daemon that Docker's own tools would find."""
    nonce = secrets.token_hex(8)
    daemon = Daemon(f"{_USER_AGENT} ({nonce})")
    nodes = Nodes(Containers(daemon))
    return Docker(
        Images(daemon),
        partial(image_events, daemon),
        nodes,
        nonce,
        partial(trigger_registry_lookup, daemon),
        tending=partial(tending, daemon),
        node_starts=partial(node_starts, daemon, nodes),
    )


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy's parts that its owner looks at."""

    server: Server
    sync: Pushes
    journal: Journal


@asynccontextmanager
async def running(settings: Settings, docker: Docker, show: Emit) -> AsyncIterator[Proxy]:
    """A proxy that listens for as long as the context lasts. Raises ListenFailed."""
    state = settings.state.expanduser()
    history = History()
    stream = EventStream(history, __version__)
    metrics = Metrics(__version__)

    def tell(event: Event) -> None:
        show(event)
        stream.emit(event)
        metrics.take(event)
        podnews.take(event)
        if isinstance(event, PushStarted):
            platforms.look_at(event.image)
        if isinstance(event, NodeRefreshed):
            held.forget()

    refresh = NodeRefresher(docker.nodes, settings.names, tell, restarts=settings.restart_workloads)
    podnews = PodEvents(docker.nodes, settings.names)

    def emit(event: Event) -> None:
        if probe is not None and probe.recognises(event):
            return
        tell(event)
        if settings.refresh:
            match event:
                case PushFinished(image, _, digest) | HandPushSeen(image, _, digest):
                    refresh.changed(image, digest)

    probe = None
    if docker.make_daemon_ask is not None:
        probe = LoopbackCheck(docker.make_daemon_ask, settings.names.primary, emit)
    journal = Journal(state, lambda sentence: emit(Notice(sentence)))
    history.open(state)
    backend = Backend(settings.backend, metrics.backend_asked, settings.limits.idle_seconds)
    questions = AsyncDocker(docker.images, settings.names, metrics.docker_asked)
    sync = Pushes(questions, backend, journal, emit)
    pulls = PullHandler(
        questions, backend, sync, journal, nonce=docker.nonce, patience=settings.patience
    )
    held = NodeInventory(docker.nodes, settings.names)
    stores = Inventory(questions, backend, sync, journal, held, settings.names)
    names = settings.names
    status = Status(questions, backend, stores, held, stream, history, names, state, __version__)
    status.probe = probe
    platforms = PlatformCheck(questions, docker.nodes, settings.names, tell)
    actions = Actions(stores, sync, journal, refresh, platforms, history, settings.names)
    page = Page()
    pages: dict[tuple[str, str], OwnPage] = {
        ("GET", "/"): page.root,
        ("GET", OWN_PREFIX): page.moved,
        ("GET", f"{OWN_PREFIX}/"): page.page,
        ("GET", f"{OWN_PREFIX}/health"): status.health,
        ("GET", f"{OWN_PREFIX}/status"): status.status,
        ("GET", f"{OWN_PREFIX}/events"): stream.events,
        ("GET", f"{OWN_PREFIX}/metrics"): metrics.metrics,
        ("POST", f"{OWN_PREFIX}/push"): actions.push,
        ("POST", f"{OWN_PREFIX}/refresh"): actions.refresh,
    }
    server = Server(settings, backend, pulls, emit, pages)
    watch = BuildWatcher(
        docker.follow, questions, sync, journal, settings.names, settings.skip, emit
    )
    metrics.gauge("pushes_running", "Pushes under way.", lambda: len(stream.running))
    metrics.gauge("docker_up", "Docker answers.", lambda: questions.is_answering)
    metrics.gauge(
        "docker_events_connected", "Docker's events are followed.", lambda: watch.is_connected
    )
    metrics.gauge("tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
    metrics.gauge("listeners", "Who listens to the event stream.", lambda: stream.listeners)
    background = [asyncio.create_task(write_down(journal, history))]
    try:
        await server.start()
        if probe is not None:
            background.append(asyncio.create_task(probe.run()))
        if settings.watch:
            background.append(asyncio.create_task(watch.run()))
        if settings.refresh and docker.node_starts is not None:
            coming = partial(docker.node_starts, settings.names.primary)
            returns = NodeStartWatcher(coming, docker.nodes, backend, refresh, settings.names)
            background.append(asyncio.create_task(returns.run()))
        if docker.tending is not None:
            background.append(asyncio.create_task(docker.tending(settings).run(emit)))
        if settings.attach_all:
            background.append(
                asyncio.create_task(attach_all(Daemon(_USER_AGENT), settings, emit).run())
            )
        yield Proxy(server, sync, journal)
    finally:
        stream.close()
        await server.stop()
        for task in background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        questions.close()
        refresh.close()
        podnews.close()
        platforms.close()
        held.close()
        await backend.close()
        history.close()
        journal.close()


def attach_all(daemon: Daemon, settings: Settings, emit: Emit) -> AutoAttach:
    """Attaches every cluster that starts."""
    attach = _attachment(daemon, settings).attach
    return AutoAttach(partial(_running, daemon), attach, emit)


def _attachment(daemon: Daemon, settings: Settings) -> Attachment:
    """For a proxy that runs in a container, its backend goes with it; else the host's address is the road."""
    containers = Containers(daemon)
    port = int(settings.names.primary.rpartition(":")[2])
    members = (BACKEND, settings.container) if settings.container else ()
    mirror, files = Mirror.of(port, settings.container), MirrorFiles(containers)
    return Attachment(containers, Networks(daemon), Nodes(containers), files, mirror, members)


def _running(daemon: Daemon) -> Iterator[str]:
    """The clusters that run, and then that of every node that starts; blocks."""
    nodes = Nodes(Containers(daemon))
    for labels in container_events(daemon, "app=k3d", CLUSTER_LABEL):
        if labels is None:
            yield from sorted({node.cluster for node in nodes.all() if node.is_running})
        elif labels.get(ROLE_LABEL) in ROLES:
            yield labels[CLUSTER_LABEL]


def tending(daemon: Daemon, settings: Settings) -> NetworkRepair:
    """For every cluster of this Docker, attached or not: all of them start when Docker does."""
    containers, networks = Containers(daemon), Networks(daemon)
    return NetworkRepair(
        partial(give_back, containers),
        partial(leave_gone, containers, networks, (BACKEND, PROXY)),
        _attachment(daemon, settings).rejoin,
        partial(_changes, daemon),
    )


def _changes(daemon: Daemon) -> Iterator[str | None]:
    """None when Docker is listened to, then `start` or `destroy` of containers of k3d's; blocks."""
    for labels in container_events(daemon, "app=k3d", actions=("start", "destroy")):
        yield None if labels is None else labels["action"]


def run(settings: Settings, show: Emit) -> None:
    """Serve until SIGINT or SIGTERM, then end what is under way. Raises ListenFailed."""
    raise_descriptors()
    asyncio.run(_until_stopped(settings, show))


async def _until_stopped(settings: Settings, show: Emit) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings, real_docker(), show) as proxy:
        where = ", ".join(str(address) for address in settings.listen)
        show(
            Notice(f"{settings.names.primary} is served at {where}, in front of {settings.backend}")
        )
        await stop.wait()
        began = time.monotonic()
        left = await proxy.sync.settle(STOP_SECONDS)
        proxy.server.stop_seconds = max(0.5, STOP_SECONDS - (time.monotonic() - began))
        for image in left:
            show(Notice(f"{image}  its push was cut off, the next pull starts it anew"))


def raise_descriptors() -> None:
    """A shell's usual 1024 files are fewer than the connections we let in; the system's own bound is ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says unlimited, and does not mean it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
