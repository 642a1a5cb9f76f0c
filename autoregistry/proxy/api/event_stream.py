"""The stream of server-sent events, for the page and the commands.

Clients have no queues. All share the recent events and the latest progress of each running push, and a client has a
position in them. A slow client therefore costs nothing and skips progress. If it falls behind the kept events, or does
not read for a minute, its connection is closed; it reconnects with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from itertools import takewhile
from typing import Any

from aiohttp import web

from autoregistry import __version__
from autoregistry.event_json import to_json
from autoregistry.events import (
    Answer,
    Event,
    NodeRefreshing,
    PullAnswered,
    PullSeen,
    PushFailed,
    PushFinished,
    PushProgress,
    PushStarted,
)
from autoregistry.names import Image
from autoregistry.proxy.api.history import EventId, History

# A silent connection looks like a dead one.
HEARTBEAT_SECONDS = 15.0
STALLED_SECONDS = 60.0
MAX_RECENT = 4000
UNREAD_BYTES = 64 * 1024
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class EventStream:
    """Sends every event to all connected clients."""

    def __init__(self, history: History) -> None:
        self.history = history
        # Encoded events with their positions in the order of all events, which has no gaps.
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=MAX_RECENT)
        self._progress: dict[Image, tuple[int, bytes]] = {}
        self.running: dict[Image, dict[str, Any]] = {}
        """The latest payload of each running push."""
        self._n = 0
        self._has_news = asyncio.Event()
        self._is_closed = False
        self.listeners = 0

    def emit(self, event: Event) -> None:
        """Send an event. Called in the event loop's thread."""
        if isinstance(event, PushProgress) and event.image not in self.running:
            return  # reported by a thread after the push ended
        payload = {**to_json(event), "at": round(time.time(), 3)}
        self._track(event, payload)
        self._n += 1
        if isinstance(event, PushProgress):
            self._progress[event.image] = (self._n, _encode(payload))
        else:
            payload = self.history.add(payload) if _is_kept(event) else payload
            self._recent.append((self._n, _encode(payload)))
        self._has_news.set()
        self._has_news = asyncio.Event()

    def _track(self, event: Event, payload: dict[str, Any]) -> None:
        match event:
            case PushStarted(image, _, because):
                started = {"image": str(image), "because": because, "started_at": payload["at"]}
                self.running[image] = started
            case PushProgress(image):
                self.running[image] = {**self.running[image], **payload}
            case PushFinished(image) | PushFailed(image):
                self.running.pop(image, None)
                self._progress.pop(image, None)

    def close(self) -> None:
        """End every connection, because the server waits for its handlers."""
        self._is_closed = True
        self._has_news.set()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Serve `GET /_autoregistry/events`."""
        headers = {"Content-Type": "text/event-stream; charset=utf-8", **NO_STORE}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        connection = request.transport.get_extra_info("socket") if request.transport else None
        if connection is not None:
            # The kernel's buffer for a client that does not read is megabytes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
        after = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        self.listeners += 1
        try:
            await self._send(response, EventId.parse(after))
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.listeners -= 1
        return response

    async def _send(self, response: web.StreamResponse, after: EventId | None) -> None:
        # No await between these reads, so that no event is missed or sent twice.
        cursor = self._n
        missed = [e.payload for e in self.history.entries if after is not None and e.id > after]
        hello = {
            "type": "hello",
            "version": __version__,
            "id": str(self.history.last),
            "is_complete": after is None or self.history.is_complete_since(after),
        }
        running = [text for _, text in self._progress.values()]
        await _write(response, b"retry: 1000\n\n")
        for payload in missed:  # encoded as it is sent: many clients may have missed much
            await _write(response, _encode(payload))
        for text in (*running, _encode(hello)):
            await _write(response, text)
        while not self._is_closed:
            if self._n == cursor:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await self._has_news.wait()
                except TimeoutError:
                    await _write(response, b": still here\n\n")
                continue
            news = list(takewhile(lambda item: item[0] > cursor, reversed(self._recent)))  # noqa: B023  # used at once
            if len(news) == MAX_RECENT:
                return  # it has missed some, and gets them when it reconnects
            news += [item for item in self._progress.values() if item[0] > cursor]
            cursor = self._n
            for _, text in sorted(news):
                await _write(response, text)


def _is_kept(event: Event) -> bool:
    """Return False for requests that are not answered yet, those of our own pushes, and pulls of nodes that begin."""
    match event:
        case PullSeen() | NodeRefreshing() | PullAnswered(answer=Answer.OWN_PUSH):
            return False
    return True


def _encode(payload: dict[str, Any]) -> bytes:
    id_line = f"id: {payload['id']}\n" if "id" in payload else ""
    return f"{id_line}data: {json.dumps(payload)}\n\n".encode()


async def _write(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(text)
