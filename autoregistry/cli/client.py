"""The road from a command to the running proxy: its published port, or where that is not ours, `docker exec`.

With a daemon on another machine, in a devcontainer, or in a CI job that has only the socket, 127.0.0.1:5000 is
not the proxy's. What answers there has to say that it is ours before it is asked anything else.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from typing import Any, Self

import click
import httpx

from autoregistry import api_paths
from autoregistry.cli import docker
from autoregistry.engine.containers import Containers
from autoregistry.errors import (
    AutoregistryError,
    DockerRefused,
    ProxyUnreachable,
)
from autoregistry.stack.current import find_stack
from autoregistry.stack.model import PROXY, Options

_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 60.0
# Runs in the proxy's container: method, path, body; the status comes first, then the answer as it comes.
_ASK = """
import http.client, sys
method, path, body = sys.argv[1:4]
connection = http.client.HTTPConnection("127.0.0.1", 5000, timeout=None)
headers = {"Host": "localhost", "Content-Type": "application/json"}
connection.request(method, path, body or None, headers)
answer = connection.getresponse()
print(answer.status, flush=True)
for line in answer:
    print(line.decode(), end="", flush=True)
"""


class Client:
    """Asks one proxy, by whichever road leads there; without containers only by its port."""

    def __init__(self, containers: Containers | None, options: Options) -> None:
        self._containers = containers
        self._options = options
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{options.port}",
            headers={"Host": options.name},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=False,
            # There is no TLS; to read the certificates of all authorities takes 0.1 s.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )
        self._is_near: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def is_near(self) -> bool:
        """Whether the published port leads to our proxy from here."""
        if self._is_near is None:
            try:
                answer = self._http.get(api_paths.HEALTH)
                self._is_near = answer.status_code == 200 and self._is_ours(answer.json())
            except (httpx.HTTPError, ValueError):
                self._is_near = False
        return self._is_near

    def _is_ours(self, said: object) -> bool:
        """A proxy of this Docker: with another context chosen, that of the one before may still run here."""
        if not isinstance(said, dict) or "version" not in said:
            return False
        daemon, ours = said.get("daemon"), self._containers
        return ours is None or not daemon or daemon == ours.daemon_identity()

    def is_there(self) -> bool:
        """Whether it answers now, by either road."""
        self._is_near = None
        try:
            self.get_json(api_paths.HEALTH)
        except AutoregistryError:
            return False
        return True

    def get_json(self, path: str) -> Any:  # noqa: ANN401  # the caller knows what it asked for
        """GET, as JSON. Raises ProxyUnreachable."""
        return self._json("GET", path, None)

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401  # as above
        """POST JSON, and the answer's. Raises ProxyUnreachable."""
        return self._json("POST", path, body)

    def events(self, path: str = api_paths.EVENTS) -> Iterator[dict[str, Any]]:
        """The data of each server-sent event, until the proxy goes away."""
        for line in self._lines(path):
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))

    def _json(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401  # as above
        text = "" if body is None else json.dumps(body)
        if self._containers is None or self.is_near:
            try:
                headers = {"Content-Type": "application/json"}
                answer = self._http.request(method, path, content=text or None, headers=headers)
            except httpx.HTTPError as exc:
                raise self._unreachable(str(exc)) from exc
            return self._read(answer.status_code, answer.text)
        try:
            ran = self._containers.exec(PROXY, _command(method, path, text))
        except DockerRefused as exc:
            raise self._unreachable(exc.message) from exc
        status, _, answered = ran.stdout.partition("\n")
        if ran.code != 0 or not status.isdecimal():
            raise self._unreachable((ran.stderr.strip().splitlines() or ["it does not answer"])[-1])
        return self._read(int(status), answered)

    def _lines(self, path: str) -> Iterator[str]:
        if self._containers is None or self.is_near:
            timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
            try:
                with self._http.stream("GET", path, timeout=timeout) as answer:
                    yield from answer.iter_lines()
            except httpx.HTTPError as exc:
                raise self._unreachable(str(exc)) from exc
        else:
            try:
                yield from self._containers.exec_lines(PROXY, _command("GET", path, ""))
            except DockerRefused as exc:
                raise self._unreachable(exc.message) from exc

    def _read(self, status: int, text: str) -> Any:  # noqa: ANN401  # as above
        if status >= 400:
            raise self._unreachable(f"it answered {status}: {text.strip()[:200]}")
        try:
            return json.loads(text)
        except ValueError as exc:
            raise self._unreachable("its answer is not JSON") from exc

    def _unreachable(self, cause: str) -> AutoregistryError:
        return ProxyUnreachable(
            f"the proxy at {self._options.name} cannot be asked: {cause}", "autoregistry status"
        )


def proxy_client() -> Client:
    """The client of the proxy that `up` made in this Docker, or of the `serve` named by AUTOREGISTRY_NAME.

    It is closed when the command ends.
    """
    return click.get_current_context().with_resource(_found())


def named() -> Options | None:
    """Of the `serve` that AUTOREGISTRY_NAME names: what is known of it, its port."""
    port = os.environ.get("AUTOREGISTRY_NAME", "").rpartition(":")[2]
    return Options(port=int(port)) if port.isdecimal() else None


def _found() -> Client:
    if (options := named()) is not None:
        return Client(None, options)
    containers = Containers(docker.daemon())
    return Client(containers, find_stack(containers).options)


def _command(method: str, path: str, body: str) -> list[str]:
    return ["python", "-I", "-S", "-c", _ASK, method, path, body]
