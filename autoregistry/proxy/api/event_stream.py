"""One stream of events, server-sent: everything that shows something draws from it.

A client has no queue. It reads on from where it is in what all share: the history, and the latest progress of
each running push. So a slow client costs nothing, skips progress, and where it falls behind what is kept, or
does not read for a minute, its connection is closed; it comes back with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from autoregistry.event_json import to_json
from autoregistry.events import Answer, Event, NodeRefreshing, PullAnswered, PullSeen, PushProgress
from autoregistry.names import Image
from autoregistry.proxy.api.history import EventId, History

# A connection that says nothing cannot be told from a dead one.
SILENCE_SECONDS = 15.0
STALLED_SECONDS = 60.0
SHOWN = 4000
UNREAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Sent:
    """What is sent, and its place in the order of everything; `n` counts without gaps."""

    n: int
    text: bytes


class EventStream:
    """Takes every event, and tells all who listen."""

    def __init__(self, history: History, version: str) -> None:
        self._history = history
        self._version = version
        self._recent: deque[_Sent] = deque(maxlen=SHOWN)
        self._progress: dict[Image, _Sent] = {}
        self.running: dict[Image, dict[str, Any]] = {}
        """Of each push under way: what was said of it last."""
        self._n = 0
        self._news = asyncio.Event()
        self._is_closed = False
        self.listeners = 0

    def emit(self, event: Event) -> None:
        """Take an event, from the loop's own thread."""
        said = {**to_json(event), "at": round(time.time(), 3)}
        self._follow(event, said)
        self._n += 1
        if isinstance(event, PushProgress):
            if event.image in self.running:
                self._progress[event.image] = _Sent(self._n, _text(said))
            else:  # told by a thread, after its push had ended
                self._n -= 1
                return
        else:
            kept = _is_kept(event)
            said = self._history.add(said).said if kept else said
            self._recent.append(_Sent(self._n, _text(said)))
        self._news.set()
        self._news = asyncio.Event()

    def _follow(self, event: Event, said: dict[str, Any]) -> None:
        match said["type"]:
            case "push-started":
                self.running[Image(*said["image"].rsplit(":", 1))] = {
                    "image": said["image"],
                    "because": said["because"],
                    "started_at": said["at"],
                }
            case "push-finished" | "push-failed":
                image = Image(*said["image"].rsplit(":", 1))
                self.running.pop(image, None)
                self._progress.pop(image, None)
            case "push-progress" if isinstance(event, PushProgress):
                if event.image in self.running:
                    began = self.running[event.image]
                    self.running[event.image] = {**began, **said}

    def close(self) -> None:
        """End every connection: the server waits for its handlers."""
        self._is_closed = True
        self._news.set()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /_autoregistry/events`."""
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
            }
        )
        await response.prepare(request)
        _bound(request)
        given = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        after = EventId.parse(given)
        self.listeners += 1
        try:
            await self._tell(response, after)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.listeners -= 1
        return response

    async def _tell(self, response: web.StreamResponse, after: EventId | None) -> None:
        # What is read here and the first look at the news below must not be parted by an await.
        cursor = self._n
        missed = [e for e in self._history.entries if after is not None and e.id > after]
        hello = {
            "type": "hello",
            "version": self._version,
            "id": str(self._history.last),
            "is_complete": after is None or self._history.reaches(after),
        }
        running = [sent.text for sent in self._progress.values()]
        await _write(response, b"retry: 1000\n\n")
        for entry in missed:  # made as it is sent: many may be told much, and read none of it
            await _write(response, _text(entry.said))
        for text in (*running, _text(hello)):
            await _write(response, text)
        while not self._is_closed:
            if self._n == cursor:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    await _write(response, b": still here\n\n")
                continue
            news = []
            for sent in reversed(self._recent):
                if sent.n <= cursor:
                    break
                news.append(sent)
            if len(news) == SHOWN:
                return  # it has missed some: it shall come back and say what it saw last
            news += [sent for sent in self._progress.values() if sent.n > cursor]
            cursor = self._n
            for sent in sorted(news, key=lambda sent: sent.n):
                await _write(response, sent.text)


def _is_kept(event: Event) -> bool:
    """Progress and questions are of the moment, and our own push's questions are nobody's news."""
    match event:
        case PullAnswered(answer=answer):
            return answer is not Answer.OWN_PUSH
        case PullSeen() | PushProgress() | NodeRefreshing():
            return False
        case _:
            return True


def _text(said: dict[str, Any]) -> bytes:
    name = f"id: {said['id']}\n" if "id" in said else ""
    return f"{name}data: {json.dumps(said)}\n\n".encode()


def _bound(request: web.Request) -> None:
    """Let the kernel hold little for a client that does not read: on its own it goes up to megabytes."""
    told = request.transport.get_extra_info("socket") if request.transport else None
    if told is not None:
        told.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)


async def _write(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(text)
