"""What the proxy says about itself."""

from __future__ import annotations

from aiohttp import web

from autoregistry.decision import Unreachable
from autoregistry.errors import BackendUnreachable
from autoregistry.proxy.backend import Ask, Backend
from autoregistry.proxy.questions import Questions

BACKEND_SECONDS = 2.0


class Status:
    """Answers `/_autoregistry/health`."""

    def __init__(self, questions: Questions, backend: Backend, version: str) -> None:
        self._questions = questions
        self._backend = backend
        self._version = version

    async def health(self, _: web.Request) -> web.Response:
        """200 while we serve; the JSON says how Docker and the backend are."""
        docker = await self._questions.ask(lambda images: images.is_there())
        backend = "ok"
        try:
            ask = Ask("GET", "/v2/", [(b"Host", self._backend.host)])
            async with await self._backend.send(ask, silence=BACKEND_SECONDS):
                pass
        except BackendUnreachable as exc:
            backend = exc.message
        return web.json_response(
            {
                "version": self._version,
                "docker": "does not answer" if isinstance(docker, Unreachable) else "ok",
                "backend": backend,
            },
            headers={"Cache-Control": "no-store"},
        )
