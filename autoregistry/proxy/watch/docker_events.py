"""The one follower of Docker's event stream. Its subscribers get typed events, in the event loop.

Subscribers are called in the order in which they subscribed and must not block. The time of the last event is
noted in the journal only after all of them have returned, so an event that was not handled is replayed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from autoregistry.cluster.nodes import CLUSTER_LABEL, ROLE_LABEL
from autoregistry.engine.events import ContainerEvent, ImageEvent
from autoregistry.errors import AutoregistryError
from autoregistry.events import Emit, Notice
from autoregistry.proxy.pull.journal import Journal

LAST_EVENT = "last-event"
MIN_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
_K3D = ("app", "k3d")


@dataclass(frozen=True, slots=True)
class Connected:
    """Docker's events are followed from now on."""

    since: float
    """Seconds since the epoch: no event after this moment was missed, as far as Docker still had it."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream ended."""

    cause: str
    was_connected: bool


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A container of k3d was started or unpaused."""

    name: str
    cluster: str
    """Empty for a container that belongs to no cluster, such as a registry."""
    role: str


@dataclass(frozen=True, slots=True)
class NodeRemoved:
    """A container of k3d was removed."""

    name: str


DockerEvent = Connected | Disconnected | ImageEvent | NodeStarted | NodeRemoved
Handler = Callable[[DockerEvent], None]
EventStream = Callable[[int], Iterator[ImageEvent | ContainerEvent | None]]
"""Blocks on Docker's events since that nanosecond; yields None once Docker listens (`engine/events.py`)."""
_Queue = asyncio.Queue[ImageEvent | ContainerEvent | AutoregistryError | None]
"""From the thread to the loop: the events of one connection, and the error that ended it."""


class DockerEvents:
    """Follows one daemon for as long as `run` runs."""

    def __init__(self, stream: EventStream, journal: Journal, emit: Emit) -> None:
        self._stream = stream
        self._journal = journal
        self._emit = emit
        self._handlers: list[Handler] = []
        self.is_connected = False

    def subscribe(self, handler: Handler) -> None:
        """Call `handler` with every event."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """Follow the stream, and connect again with back-off when it ends. Runs until it is cancelled."""
        pause = MIN_PAUSE_SECONDS
        while True:
            cause = await self._follow()
            was_connected, self.is_connected = self.is_connected, False
            self._publish(Disconnected(cause.message, was_connected))
            pause = MIN_PAUSE_SECONDS if was_connected else min(pause * 2, MAX_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _follow(self) -> AutoregistryError:
        """Publish the events of one connection; return the reason why it ended."""
        # At the first start, the stream begins now: what happens before it is open is in no list either.
        since = int(self._journal.note(LAST_EVENT) or time.time_ns())
        self._journal.set_note(LAST_EVENT, str(since))
        queue: _Queue = asyncio.Queue()
        args = (asyncio.get_running_loop(), queue, since + 1)
        # A daemon thread: it blocks for as long as Docker reports nothing, and ends with the process.
        threading.Thread(target=self._read, args=args, daemon=True, name="docker-events").start()
        while not isinstance(event := await queue.get(), AutoregistryError):
            if not self.is_connected:
                self.is_connected = True
                self._publish(Connected(since / 1e9))
            if event is not None:
                self._take(event)
        return event

    def _read(self, loop: asyncio.AbstractEventLoop, queue: _Queue, since: int) -> None:
        end = AutoregistryError("the stream ended")
        with suppress(RuntimeError):  # the loop is closed: the proxy stops
            try:
                for event in self._stream(since):
                    loop.call_soon_threadsafe(queue.put_nowait, event)
            except AutoregistryError as exc:
                end = exc
            except Exception as exc:  # the follower must never end silently
                end = AutoregistryError(f"unexpected {type(exc).__name__}: {exc}")
            finally:
                loop.call_soon_threadsafe(queue.put_nowait, end)

    def _take(self, event: ImageEvent | ContainerEvent) -> None:
        match event:
            case ImageEvent():
                self._publish(event)
            case ContainerEvent("destroy", name, labels) if _is_k3d(labels):
                self._publish(NodeRemoved(name))
            case ContainerEvent(_, name, labels) if _is_k3d(labels):
                cluster, role = labels.get(CLUSTER_LABEL, ""), labels.get(ROLE_LABEL, "")
                self._publish(NodeStarted(name, cluster, role))
        if event.nanoseconds:
            self._journal.set_note(LAST_EVENT, str(event.nanoseconds))

    def _publish(self, event: DockerEvent) -> None:
        for handler in self._handlers:
            try:
                handler(event)
            except Exception as exc:  # one subscriber's error must not end the others, or repeat the event for ever
                error = f"{type(exc).__name__}: {exc}"
                self._emit(Notice(f"internal error while handling {event} ({error})"))


def _is_k3d(labels: object) -> bool:
    return isinstance(labels, dict) and _K3D in labels.items()
