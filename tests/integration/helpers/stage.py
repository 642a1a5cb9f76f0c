"""The page over invented stores, for states that would take hours to bring about."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from aiohttp import web

from autoregistry import api_paths
from autoregistry.image_state import ImageState, next_pull
from autoregistry.proxy.api.page import page

NAME = "localhost:5000"
BOOT = 1_700_000_000_000
AT = 1_700_000_000.0


def digest(of: str) -> str:
    return f"sha256:{sha256(of.encode()).hexdigest()}"


class Stage:
    """The page's server: `status` is what it answers, `send` sends an event."""

    def __init__(self) -> None:
        self.url = ""
        self._n = 0
        self._listeners: list[asyncio.Queue[str]] = []
        self.status: dict[str, Any] = {
            "name": NAME,
            "is_compared": True,
            "images": [],
            "nodes": [],
            "free_bytes": 41_200_000_000,
            "pulls": [],
            "running": [],
            "health": {
                **dict.fromkeys(("docker", "backend", "loop", "disk", "journal"), "ok"),
                "background": {},
            },
        }

    def cluster(self, cluster: str, *nodes: str, state: str = "ok") -> None:
        self.status["nodes"] += [
            {"cluster": cluster, "node": f"k3d-{cluster}-{node}", "state": state} for node in nodes
        ]

    def image(self, image: str, state: str, because: str, *held: str) -> dict[str, Any]:
        """Add a row; `held` is the copy of each node: `new`, `old`, `silent` or empty."""
        new, old = digest(image), digest(f"{image} before")
        has_old = state in ("behind", "stale", "by-hand")
        docker = "" if state in ("only-in-registry", "docker-unreachable") else new
        registry = "" if state == "only-in-docker" else old if has_old else new
        columns = [node for node in self.status["nodes"] if node["state"] != "not attached"]
        nodes = [
            {
                "cluster": column["cluster"],
                "node": column["node"],
                "digest": {"new": new, "old": old}.get(has, ""),
                "is_current": {"new": new, "old": old}.get(has) == registry,
                "is_known": has != "silent",
            }
            for column, has in zip(columns, held, strict=False)
        ]
        row = {
            "image": image,
            "docker": docker,
            "registry": registry,
            "nodes": nodes,
            "state": state,
            "because": because,
            "size": 312_400_000,
            "pushed_at": AT,
            "pulled_at": None,
        }
        self.status["images"].append(row)
        return row

    def pull(self, image: str, answer: str, status: int = 200, **more: Any) -> dict[str, Any]:
        """Return the event of an answered pull."""
        self._n += 1
        return {
            "type": "pull-answered",
            "id": f"{BOOT}-{self._n}",
            "at": AT + self._n,
            "manifest": image,
            "answer": answer,
            "status": status,
            "sentence": "the registry has Docker's image",
            "seconds": 0.012,
            "client": "containerd/2.1.4-k3s1",
            **more,
        }

    def send(self, event: dict[str, Any]) -> None:
        name = f"id: {event['id']}\n" if "id" in event else ""
        for listener in self._listeners:
            listener.put_nowait(f"{name}data: {json.dumps(event)}\n\n")

    async def _status(self, request: web.Request) -> web.Response:
        status = {**self.status, "at": time.time(), "last_event_id": f"{BOOT}-{self._n}"}
        if (only := request.query.get("image")) is not None:
            status["images"] = [row for row in status["images"] if row["image"] == only]
            state = ImageState(status["images"][0]["state"])
            sentence, command = next_pull(state, only, NAME)
            status["next"] = {"sentence": sentence, "command": command}
        return web.json_response(status)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        listener: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.append(listener)
        await response.write(b'data: {"type": "hello"}\n\n')
        while text := await listener.get():
            await response.write(text.encode())
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get(api_paths.PAGE, page)
        app.router.add_get(api_paths.STATUS, self._status)
        app.router.add_get(api_paths.EVENTS, self._events)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}{api_paths.PAGE}"
        try:
            yield
        finally:
            for listener in self._listeners:
                listener.put_nowait("")
            await runner.cleanup()


def show_every_state(stage: Stage) -> None:
    """Show one of everything, with every part available."""
    stage.cluster("dev", "server-0", "agent-0", "agent-1")
    stage.cluster("other", "server-0", state="not attached")
    image = stage.image
    image("shop/api:dev", "in-step", "the registry has Docker's image", "new", "new", "new")
    image("shop/cart:dev", "behind", "Docker's image differs from the registry's", "old", "", "old")
    image("shop/jobs:dev", "nodes-behind", "an older copy is on k3d-dev-agent-0", "new", "old", "")
    image("shop/mail:dev", "only-in-docker", "Docker's image is missing from the registry")
    only = "Docker has no such image; the registry's image is used"
    image("shop/search:2024.11", "only-in-registry", only)
    cause = "Docker's image differs from the registry's, and it could not be pushed: no space left on device"
    image("shop/web:dev", "stale", cause, "old", "old", "old")
    hand = (
        "pushed by another client since Docker's image last changed; the registry's image is served"
    )
    image("tools/lint:latest", "by-hand", hand, "", "silent", "")
    image(
        "a-team/a-service-with-a-rather-long-name/and-a-part:feature-1234-of-a-branch",
        "behind",
        "Docker's image differs from the registry's",
    )
    stage.status["running"] = [
        {"image": "shop/cart:dev", "because": "it differs", "started_at": AT},
        {"image": "shop/mail:dev", "because": "it differs", "started_at": AT},
    ]
    failed = {"sentence": f"Docker's newer shop/web:dev could not be pushed: {cause[-23:]}"}
    stage.status["pulls"] = [
        stage.pull("shop/api:dev", "up-to-date"),
        stage.pull("shop/api:dev", "pushed", seconds=3.2),
        stage.pull(
            "shop/cart:dev",
            "pushing",
            408,
            seconds=25.0,
            sentence="still pushing shop/cart:dev, ask again",
        ),
        stage.pull("shop/web:dev", "push-failed", 403, **failed),
        stage.pull(
            "shop/none:dev",
            "only-in-registry",
            404,
            sentence="neither Docker nor the registry has it",
        ),
        stage.pull(
            f"shop/api@{digest('shop/api:dev')}",
            "up-to-date",
            client="docker/28.5.2 go/go1.24.9 git-commit/abc UpstreamClient(Docker-Client/28.5.2)",
        ),
        stage.pull("tools/lint:latest", "pushed-by-hand"),
        stage.pull("shop/search:2024.11", "docker-unreachable"),
    ][::-1]


def push_progress(image: str, done: int, total: int, at: float) -> dict[str, Any]:
    return {
        "type": "push-progress",
        "image": image,
        "at": at,
        "done_bytes": done,
        "total_bytes": total,
        "done_layers": 1,
        "total_layers": 3,
    }
