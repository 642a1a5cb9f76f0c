"""The composition root: one proxy, put together from its parts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from autoregistry import __version__
from autoregistry.cli.docker import daemon as docker_daemon
from autoregistry.cluster import nodes as cluster_nodes
from autoregistry.engine.containers import Containers
from autoregistry.engine.daemon import Daemon
from autoregistry.engine.distribution import make_daemon_ask
from autoregistry.engine.events import image_events
from autoregistry.engine.images import Images
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
from autoregistry.proxy.api.event_stream import Stream
from autoregistry.proxy.api.history import History, write_down
from autoregistry.proxy.api.inventory import Stores
from autoregistry.proxy.api.metrics import Metrics
from autoregistry.proxy.api.node_inventory import Nodes as StoreNodes
from autoregistry.proxy.api.node_inventory import NodeStores
from autoregistry.proxy.api.page import Page
from autoregistry.proxy.api.status import Status
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.cluster_jobs import attach_all, tending
from autoregistry.proxy.http.server import OWN_PREFIX, OwnPage, Server
from autoregistry.proxy.pull.docker import Images as AnyImages
from autoregistry.proxy.pull.docker import Questions
from autoregistry.proxy.pull.handler import Pulls
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Sync
from autoregistry.proxy.watch.builds import Follow, Watch
from autoregistry.proxy.watch.loopback_check import Probe
from autoregistry.proxy.watch.network_repair import Tending
from autoregistry.proxy.watch.node_refresh import Nodes as RefreshNodes
from autoregistry.proxy.watch.node_refresh import Refresh
from autoregistry.proxy.watch.node_starts import Returns, comings
from autoregistry.proxy.watch.platform_check import Platforms
from autoregistry.proxy.watch.pod_events import PodNews
from autoregistry.settings import Settings


class AnyNodes(RefreshNodes, StoreNodes, Protocol):
    """What the proxy as a whole needs of the clusters."""


@dataclass(frozen=True, slots=True)
class Docker:
    """What a proxy needs of Docker; tests hand in another one."""

    images: AnyImages
    follow: Follow
    nodes: AnyNodes
    nonce: str
    """What our pushes carry in their user agent, so that they are known when they come back to us."""
    make_daemon_ask: Callable[[str], None] | None = None
    """Has the daemon itself ask a registry; None where the proxy is not to find out whether that is us."""
    tending: Callable[[Settings], Tending] | None = None
    """What looks after clusters; None where there are no real ones."""
    comings: Callable[[str], Iterator[str]] | None = None
    """Follows the nodes of that registry that come back; None where nobody does."""


def real_docker() -> Docker:
    """The daemon that Docker's own tools would find."""
    nonce = secrets.token_hex(8)
    daemon = Daemon(f"autoregistry/{__version__} ({nonce})")
    nodes = cluster_nodes.Nodes(Containers(daemon))
    return Docker(
        Images(daemon),
        partial(image_events, daemon),
        nodes,
        nonce,
        partial(make_daemon_ask, daemon),
        tending=partial(tending, daemon),
        comings=partial(comings, daemon, nodes),
    )


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy's parts that its owner looks at."""

    server: Server
    sync: Sync
    journal: Journal


@asynccontextmanager
async def running(settings: Settings, docker: Docker, show: Emit) -> AsyncIterator[Proxy]:
    """A proxy that listens for as long as the context lasts. Raises ListenFailed."""
    state = settings.state.expanduser()
    history = History()
    stream = Stream(history, __version__)
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

    refresh = Refresh(docker.nodes, settings.names, tell, restarts=settings.restart_workloads)
    podnews = PodNews(docker.nodes, settings.names)

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
        probe = Probe(docker.make_daemon_ask, settings.names.primary, emit)
    journal = Journal(state, lambda sentence: emit(Notice(sentence)))
    history.open(state)
    backend = Backend(settings.backend, metrics.backend_asked, settings.limits.idle_seconds)
    questions = Questions(docker.images, settings.names, metrics.docker_asked)
    sync = Sync(questions, backend, journal, emit)
    pulls = Pulls(questions, backend, sync, journal, nonce=docker.nonce, patience=settings.patience)
    held = NodeStores(docker.nodes, settings.names)
    stores = Stores(questions, backend, sync, journal, held, settings.names)
    names = settings.names
    status = Status(questions, backend, stores, held, stream, history, names, state, __version__)
    status.probe = probe
    platforms = Platforms(questions, docker.nodes, settings.names, tell)
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
    watch = Watch(docker.follow, questions, sync, journal, settings.names, settings.skip, emit)
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
        if settings.refresh and docker.comings is not None:
            coming = partial(docker.comings, settings.names.primary)
            returns = Returns(coming, docker.nodes, backend, refresh, settings.names)
            background.append(asyncio.create_task(returns.run()))
        if docker.tending is not None:
            background.append(asyncio.create_task(docker.tending(settings).run(emit)))
        if settings.attach_all:
            background.append(
                asyncio.create_task(attach_all(docker_daemon(), settings, emit).run())
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
