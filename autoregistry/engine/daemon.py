"""Finding one Docker daemon and talking to it, the way Docker's own tools do.

Refuses to use proxies from the environment (they would divert what is local) and to read credentials: nothing
we ask of a daemon needs them, and a broken credential helper must not stop us.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import docker
import requests
import urllib3
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.utils import kwargs_from_env

from autoregistry.engine.ssh import SshAdapter
from autoregistry.errors import AutoregistryError, DockerRefused, DockerUnreachable
from autoregistry.settings import DOCKER_CALL_SECONDS

# `?manifests=1` of inspect, and of the list one version earlier (moby api/docs/CHANGELOG.md, v1.47 and v1.48).
INSPECT_MANIFESTS_SINCE = (1, 48)
LIST_MANIFESTS_SINCE = (1, 47)
MAX_CONNECTIONS = 32
# What the kernel calls otherwise than images do.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """Which daemon this is."""

    identity: str
    name: str
    version: str
    api: str
    store: str
    """`containerd` or `classic`: what an image's Id means depends on it."""
    architecture: str
    """As images say it, `amd64`."""


class Daemon:
    """One Docker daemon. Connects at the first question, and again after the daemon was away."""

    def __init__(self, user_agent: str, environment: Mapping[str, str] | None = None) -> None:
        self._user_agent = user_agent
        self._environment = dict(os.environ if environment is None else environment)
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    @property
    def host(self) -> str:
        """The daemon's address, as Docker's own tools would find it."""
        with translated("Docker's context"):
            return str(self._parameters().get("base_url") or "unix:///var/run/docker.sock")

    @property
    def environment(self) -> dict[str, str]:
        """What another program has to be told to talk to this very daemon."""
        told = {"DOCKER_HOST": self.host}
        if certificates := getattr(self._parameters().get("tls"), "ca_cert", None):
            folder = str(Path(certificates).parent)  # a context has them under the usual names
            told |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": folder}
        return told

    def client(self) -> docker.APIClient:
        """docker-py's client, its API version agreed with the daemon."""
        with self._lock:
            if self._client is None:
                with translated(self.host), closing(self._make("1.40")) as first:
                    version = first.version(api_version=False)["ApiVersion"]
                    self._client = self._make(version)
            return self._client

    def close(self) -> None:
        """Let go of its connections; the next question makes new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _parameters(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = dict(kwargs_from_env(self._environment))
        except docker.errors.TLSParameterError as exc:
            folder = self._environment.get("DOCKER_CERT_PATH") or "~/.docker"
            raise DockerUnreachable(
                f"Docker is to be asked by TLS, and {folder} lacks ca.pem, cert.pem or key.pem",
                f"ls {folder}",
            ) from exc
        if "base_url" not in found:
            chosen = ContextAPI.kwargs_from_context(environment=self._environment)
            name = self._environment.get("DOCKER_CONTEXT") or get_current_context_name()
            # docker-py would go on with the default daemon, also where there is no config.json.
            if not chosen and name != "default":
                raise DockerUnreachable(
                    f"Docker's context {name} cannot be found", "docker context ls"
                )
            found = {**chosen, **found}
        return found

    def _make(self, version: str) -> docker.APIClient:
        parameters = self._parameters()
        if is_ssh := str(parameters.get("base_url")).startswith("ssh://"):
            parameters["base_url"] = "unix:///ssh"  # never opened: its adapter is replaced below
        # A version given outright means that no request is made before trust_env is off.
        made = docker.APIClient(
            version=version,
            timeout=int(DOCKER_CALL_SECONDS),
            user_agent=self._user_agent,
            max_pool_size=MAX_CONNECTIONS,
            **parameters,
        )
        made.trust_env = False
        if is_ssh:
            made.mount("http+docker://", SshAdapter(self.host, max_pool_size=MAX_CONNECTIONS))
        return made

    def supports(self, version: tuple[int, int]) -> bool:
        major, _, minor = self.client().api_version.partition(".")
        return (int(major), int(minor)) >= version

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: IO[bytes] | None = None,
        timeout: float | None = DOCKER_CALL_SECONDS,
        stream: bool = False,
    ) -> requests.Response:
        """One request of the Engine API, with a body that is JSON or bytes.

        docker-py's own methods have one timeout for everything, and some read credentials and proxies.
        Raises DockerUnreachable, or DockerRefused for any error but 404.
        """
        client = self.client()
        url = f"{client.base_url}/v{client.api_version}{path}"
        try:
            with translated(self.host):
                answer: requests.Response = client.request(
                    method,
                    url,
                    params=params,
                    headers=headers,
                    json=json,
                    data=data,
                    timeout=timeout,
                    stream=stream,
                )
        except DockerUnreachable:
            with self._lock:
                self._client = None  # an upgraded daemon may speak another version
            raise
        if answer.status_code >= 400 and answer.status_code != 404:
            with translated(self.host):
                raise DockerRefused(said(answer) or f"Docker answered {answer.status_code}")
        return answer

    def info(self) -> DaemonInfo:
        """Which daemon answers, and with which image store.

        The store: DriverStatus names the snapshotter (moby daemon/containerd/service.go).
        """
        facts = self.request("GET", "/info").json()
        containerd = ["driver-type", "io.containerd.snapshotter.v1"] in (
            facts.get("DriverStatus") or []
        )
        kernel = str(facts.get("Architecture", ""))
        return DaemonInfo(
            identity=str(facts.get("ID", "")),
            name=str(facts.get("Name", "")),
            version=str(facts.get("ServerVersion", "")),
            api=self.client().api_version,
            store="containerd" if containerd else "classic",
            architecture=_ARCHITECTURES.get(kernel, kernel),
        )


@contextmanager
def translated(host: str) -> Iterator[None]:
    """Turn the errors of docker-py, requests and urllib3 into ours."""
    try:
        yield
    except AutoregistryError:
        raise
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as exc:
        hint = "docker info"
        text = str(exc)
        if "Permission denied" in text:
            hint = "sudo usermod -aG docker $USER  (then log in again)"
        elif isinstance(exc, docker.errors.ContextException):
            hint = "docker context ls"
        raise DockerUnreachable(f"Docker does not answer at {host}: {_short(text)}", hint) from exc


def _short(text: str) -> str:
    """The cause at the end of urllib3's nested texts."""
    for cause in (
        "Permission denied",
        "No such file or directory",
        "Connection refused",
        "timed out",
    ):
        if cause.lower() in text.lower():
            return cause.lower()
    return text.splitlines()[0][:200] if text else "no reason given"


def said(answer: requests.Response) -> str:
    """The daemon's own words in an error."""
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:300]
