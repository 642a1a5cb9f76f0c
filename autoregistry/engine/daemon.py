"""The connection to one Docker daemon, chosen as Docker's own tools choose it.

Proxies of the environment are not used, because they would divert local traffic. Credentials are not read: no
request needs them, and a broken credential helper must not stop us.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
import urllib3

from autoregistry.engine import compat, ssh
from autoregistry.errors import AutoregistryError, DockerRefused, DockerUnreachable
from autoregistry.settings import DOCKER_CALL_SECONDS

# Creating, starting and removing wait for disks and iptables, which take their time on a loaded machine.
CHANGE_SECONDS = 60.0
MAX_CONNECTIONS = 32
_DEFAULT_HOST = "unix:///var/run/docker.sock"
# Architectures whose name in the kernel differs from that in images.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_CAUSES = ("permission denied", "no such file or directory", "connection refused", "timed out")
_CONNECTION_ERRORS = (
    docker.errors.DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """The facts about a daemon that other code needs."""

    identity: str
    name: str
    version: str
    store: str
    """`containerd` or `classic`. The meaning of an image's Id depends on it."""
    architecture: str
    """In the spelling of images, such as `amd64`."""
    security_options: tuple[str, ...] = ()


class Daemon:
    """One Docker daemon. Connects at the first request, and again after the daemon was away."""

    def __init__(self, user_agent: str, environment: Mapping[str, str] | None = None) -> None:
        self.user_agent = user_agent
        self._environment = dict(os.environ if environment is None else environment)
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    @property
    def host(self) -> str:
        """The daemon's address, as Docker's own tools would find it."""
        with translate_errors("the address in Docker's context"):
            return str(self._parameters().get("base_url") or _DEFAULT_HOST)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make another program use this daemon."""
        variables = {"DOCKER_HOST": self.host}
        if certificate := getattr(self._parameters().get("tls"), "ca_cert", None):
            folder = str(Path(certificate).parent)  # a context has them under the usual names
            variables |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}
        return variables

    def client(self) -> docker.APIClient:
        """Return docker-py's client, with the API version that the daemon has."""
        with self._lock:
            if self._client is None:
                with translate_errors(self.host), closing(self._make_client("1.40")) as first:
                    version = first.version(api_version=False)["ApiVersion"]
                    self._client = self._make_client(version)
            return self._client

    def _parameters(self) -> dict[str, Any]:
        try:
            parameters: dict[str, Any] = dict(compat.kwargs_from_env(self._environment))
        except docker.errors.TLSParameterError as exc:
            folder = self._environment.get("DOCKER_CERT_PATH") or "~/.docker"
            raise DockerUnreachable(
                f"Docker is configured to use TLS, but {folder} lacks ca.pem, cert.pem or key.pem",
                f"ls {folder}",
            ) from exc
        if "base_url" in parameters:
            return parameters
        name = self._environment.get("DOCKER_CONTEXT") or compat.get_current_context_name()
        try:
            context = compat.ContextAPI.kwargs_from_context(name)
        except Exception as exc:  # docker-py raises a bare Exception for a damaged meta.json
            raise DockerUnreachable(
                f"Docker's context {name} cannot be read: {exc.__cause__ or exc}",
                f"docker context rm --force {name}  (then create it again)",
            ) from exc
        # docker-py would go on with the default daemon, also if there is no config.json.
        if not context and name != "default":
            raise DockerUnreachable(f"Docker's context {name} does not exist", "docker context ls")
        return {**context, **parameters}

    def _make_client(self, version: str) -> docker.APIClient:
        parameters = self._parameters()
        if is_ssh := str(parameters.get("base_url")).startswith("ssh://"):
            parameters["base_url"] = "unix:///ssh"  # never opened: its adapter is replaced below
        # With an explicit version docker-py makes no request before trust_env is off.
        client = docker.APIClient(
            version=version,
            timeout=int(DOCKER_CALL_SECONDS),
            user_agent=self.user_agent,
            max_pool_size=MAX_CONNECTIONS,
            **parameters,
        )
        client.trust_env = False
        if is_ssh:
            connect = partial(ssh.connect, self.host)
            adapter = compat.SocketAdapter(connect, max_pool_size=MAX_CONNECTIONS)
            client.mount("http+docker://", adapter)
        return client

    def supports(self, version: tuple[int, int]) -> bool:
        """Return True if the daemon has this version of the Engine API, or a later one."""
        major, _, minor = self.client().api_version.partition(".")
        return (int(major), int(minor)) >= version

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None = DOCKER_CALL_SECONDS,
        may_be_missing: bool = False,
        **options: Any,  # noqa: ANN401  # those of requests: params, headers, json, data, stream
    ) -> requests.Response:
        """Make one request of the Engine API.

        docker-py's own methods have one timeout for everything, and some read credentials and proxies.
        Raises DockerUnreachable, or DockerRefused for an error; with `may_be_missing`, 404 is not an error.
        """
        client = self.client()
        url = f"{client.base_url}/v{client.api_version}{path}"
        try:
            with translate_errors(self.host):
                response: requests.Response = client.request(
                    method, url, timeout=timeout, **options
                )
        except DockerUnreachable:
            with self._lock:
                self._client = None  # an upgraded daemon may have another version
            raise
        if response.status_code < 400 or (may_be_missing and response.status_code == 404):
            return response
        with translate_errors(self.host):
            raise DockerRefused(_error_message(response))

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        silence: float | None,
        **options: Any,  # noqa: ANN401
    ) -> Iterator[requests.Response]:
        """Make one request, and read the response as it arrives."""
        response = self.request(method, path, timeout=silence, stream=True, **options)
        with translate_errors(self.host), response:
            yield response

    def get(self, path: str, parse: Callable[[Any], _T], **options: Any) -> _T | None:  # noqa: ANN401
        """Make a GET request and return what `parse` makes of its JSON, or None for 404. Raises as `request`."""
        response = self.request("GET", path, may_be_missing=True, **options)
        return None if response.status_code == 404 else self.parse(response, parse)

    def post(
        self, path: str, body: object = None, *, timeout: float = CHANGE_SECONDS, **params: str
    ) -> requests.Response:
        """Make a change. Raises as `request`."""
        return self.request("POST", path, json=body, params=params, timeout=timeout)

    def delete(self, path: str, **params: str) -> None:
        """Remove something. If it does not exist, this is not an error."""
        self.request("DELETE", path, params=params, timeout=CHANGE_SECONDS, may_be_missing=True)

    def parse(self, response: requests.Response, parse: Callable[[Any], _T]) -> _T:
        """Return what `parse` makes of a response's JSON. Raises DockerRefused if it cannot be read."""
        with translate_errors(self.host):
            return parse(response.json())

    def refuses(self) -> bool:
        """Return True if the daemon's socket is local, and no process listens at it. Does not block."""
        try:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.settimeout(0)
                trial.connect(self.host.removeprefix("unix://"))
        except (ConnectionRefusedError, FileNotFoundError):
            return self.host.startswith("unix://")
        except (AutoregistryError, OSError):  # a context that cannot be read, or a busy daemon
            return False
        return False

    def info(self) -> DaemonInfo:
        """Return the facts about the daemon that answers now."""
        return self.parse(self.request("GET", "/info"), _daemon_info)


def _daemon_info(facts: dict[str, Any]) -> DaemonInfo:
    # DriverStatus names the snapshotter (moby daemon/containerd/service.go).
    snapshotter = ["driver-type", "io.containerd.snapshotter.v1"]
    architecture = str(facts.get("Architecture", ""))
    return DaemonInfo(
        identity=str(facts.get("ID", "")),
        name=str(facts.get("Name", "")),
        version=str(facts.get("ServerVersion", "")),
        store="containerd" if snapshotter in (facts.get("DriverStatus") or []) else "classic",
        architecture=_ARCHITECTURES.get(architecture, architecture),
        security_options=tuple(str(option) for option in facts.get("SecurityOptions") or []),
    )


@contextmanager
def translate_errors(host: str) -> Iterator[None]:
    """Turn the errors of docker-py, requests and urllib3, and those of parsing Docker's data, into ours."""
    try:
        yield
    except (*_CONNECTION_ERRORS, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise _translated(host, exc) from exc


def _translated(host: str, error: Exception) -> DockerUnreachable | DockerRefused:
    hint, text = "docker info", str(error)
    is_unreadable = isinstance(error, requests.JSONDecodeError)
    if is_unreadable or not isinstance(error, _CONNECTION_ERRORS):
        cause = f"{type(error).__name__}: {text}"[:200]
        sentence = f"cannot read the response of Docker at {host} ({cause})"
        return DockerRefused(sentence, "docker version")
    if "Permission denied" in text:
        hint = "sudo usermod -aG docker $USER  (then log in again)"
    elif isinstance(error, docker.errors.ContextException):
        hint = "docker context ls"
    # urllib3 nests its texts; the cause is at the end.
    short = text.splitlines()[0][:200] if text else "no reason given"
    cause = next((cause for cause in _CAUSES if cause in text.lower()), short)
    return DockerUnreachable(f"Docker does not answer at {host}: {cause}", hint)


def _error_message(response: requests.Response) -> str:
    """Return the daemon's own text in an error response."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:300] or f"Docker answered {response.status_code}"
