"""The client of the running proxy. It uses the published port, or `docker exec` if the port leads elsewhere.

With a daemon on another machine, in a devcontainer, or in a CI job that only has the socket, 127.0.0.1:5000 is not the
proxy's port. So the server at that port must first identify itself as the proxy of this Docker.
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
from autoregistry.errors import AutoregistryError, DockerRefused, ProxyRefused, ProxyUnreachable
from autoregistry.stack.current import CurrentStack, find_stack
from autoregistry.stack.model import PROXY
from autoregistry.stack.options import Options

_PROXY_CONNECT_SECONDS = 1.0
_RESPONSE_SECONDS = 60.0
# Runs in the proxy's container with a method, a path and a body. Prints the status, then the response as it comes; or
# why there is none.
_REQUEST_SCRIPT = """
import http.client, sys
method, path, body = sys.argv[1:4]
connection = http.client.HTTPConnection("127.0.0.1", 5000, timeout=None)
headers = {"Host": "localhost", "Content-Type": "application/json"}
try:
    connection.request(method, path, body or None, headers)
    response = connection.getresponse()
except OSError as error:
    sys.exit(print(error))
print(response.status, flush=True)
for line in response:
    print(line.decode(), end="", flush=True)
"""


class Client:
    """Sends requests to one proxy, by its port or by `docker exec`; without `containers` only by its port."""

    def __init__(self, containers: Containers | None, options: Options) -> None:
        self._containers = containers
        self._options = options
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{options.port}",
            headers={"Host": options.name},
            timeout=httpx.Timeout(_RESPONSE_SECONDS, connect=_PROXY_CONNECT_SECONDS),
            trust_env=False,
            # There is no TLS, and loading the certificates of all authorities takes 0.1 s.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )
        self._has_port: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def check_port(self) -> bool:
        """Return True if the published port on this machine leads to our proxy. The result is kept."""
        if self._has_port is None:
            try:
                response = self._http.get(api_paths.HEALTH)
                self._has_port = response.status_code == 200 and self._is_ours(response.json())
            except (httpx.HTTPError, ValueError):
                self._has_port = False
        return self._has_port

    def _is_ours(self, health: object) -> bool:
        """Return False for a proxy of another Docker, such as that of the context that was used before."""
        if not isinstance(health, dict) or "version" not in health:
            return False
        daemon, containers = health.get("daemon"), self._containers
        return containers is None or not daemon or daemon == containers.daemon_identity()

    def is_available(self) -> bool:
        """Return True if the proxy answers now, by its port or by `docker exec`."""
        self._has_port = None
        try:
            self.get_json(api_paths.HEALTH)
        except AutoregistryError:
            return False
        return True

    def get_json(self, path: str) -> Any:  # noqa: ANN401  # the caller knows the endpoint
        """Return the JSON of a GET. Raises ProxyRefused, ProxyUnreachable."""
        return self._json("GET", path)

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401  # as above
        """Send JSON by POST and return the response's. Raises ProxyRefused, ProxyUnreachable."""
        return self._json("POST", path, json.dumps(body))

    def events(self, path: str = api_paths.EVENTS) -> Iterator[dict[str, Any]]:
        """Yield the payload of each server-sent event, until the proxy stops. Raises ProxyUnreachable."""
        for line in self._lines("GET", path):
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))

    def _json(self, method: str, path: str, content: str = "") -> Any:  # noqa: ANN401  # as above
        status, *lines = [*self._lines(method, path, content, _RESPONSE_SECONDS)] or ["no response"]
        try:
            payload = json.loads("\n".join(lines))
        except ValueError as exc:
            raise self._unreachable(" ".join((status, *lines))[:200]) from exc
        if int(status) >= 400:
            sentence = payload.get("error") if isinstance(payload, dict) else payload
            raise ProxyRefused(str(sentence), "autoregistry status")
        return payload

    def _lines(
        self, method: str, path: str, content: str = "", timeout: float | None = None
    ) -> Iterator[str]:
        """Yield the status, and then the lines of the response as they come. Raises ProxyUnreachable."""
        try:
            if self._containers is None or self.check_port():
                with self._http.stream(
                    method,
                    path,
                    content=content or None,
                    headers={"Content-Type": "application/json"},
                    timeout=httpx.Timeout(timeout, connect=_PROXY_CONNECT_SECONDS),
                ) as response:
                    yield str(response.status_code)
                    yield from response.iter_lines()
            else:
                command = ["python", "-I", "-S", "-c", _REQUEST_SCRIPT, method, path, content]
                yield from self._containers.exec_lines(PROXY, command, timeout)
        except (httpx.HTTPError, DockerRefused) as exc:
            raise self._unreachable(str(exc)) from exc

    def _unreachable(self, cause: str) -> AutoregistryError:
        if self._containers is not None:
            current = find_stack(self._containers)
            if current.proxy is None or not current.proxy.is_running:
                return ProxyUnreachable(f"{PROXY} is not running", start_command(current))
        return ProxyUnreachable(
            f"the proxy at {self._options.name} does not answer: {cause}", "autoregistry status"
        )


def proxy_client() -> Client:
    """Return a client of the proxy of `up`, or of the `serve` that AUTOREGISTRY_NAME names.

    It is closed when the command ends.
    """
    if (options := serve_options()) is not None:
        client = Client(None, options)
    else:
        containers = Containers(docker.daemon())
        client = Client(containers, find_stack(containers).options)
    return click.get_current_context().with_resource(client)


def serve_options() -> Options | None:
    """Return the options of the `serve` that AUTOREGISTRY_NAME names; only its port is known."""
    port = os.environ.get("AUTOREGISTRY_NAME", "").rpartition(":")[2]
    return Options(port=int(port)) if port.isdecimal() else None


def start_command(current: CurrentStack) -> str:
    """Return the command that starts the stack."""
    return f"{current.compose_command} up -d" if current.compose_command else "autoregistry up"
