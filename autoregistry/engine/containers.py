"""Containers of one daemon and the networks they are on: what is there, and changing it.

Refuses to know which containers are ours or what a node is; callers hand in names, labels and the body of the
Engine API's own create request. What is already as asked for is no error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import requests

from autoregistry.engine.daemon import Daemon, said, translated
from autoregistry.engine.streams import STDERR, frames
from autoregistry.errors import DockerRefused


@dataclass(frozen=True, slots=True)
class Container:
    """A container as Docker has it now."""

    name: str
    identity: str
    image: str
    """The name it was created from."""
    image_identity: str
    labels: Mapping[str, str]
    state: str
    """`created`, `running`, `restarting`, `exited`, ..."""
    health: str
    """`healthy`, `unhealthy`, `starting`, or empty where there is no check."""
    health_said: str
    """The last output of the health check."""
    networks: Mapping[str, str]
    """Network name to address on it."""
    joined: frozenset[str]
    """Those of its networks it really is on: a `connect` that Docker refused leaves one without an endpoint."""
    endpoints: Mapping[str, Mapping[str, object]]
    """For each network what `connect` needs to join it again in the same way."""
    ports: Mapping[str, tuple[str, ...]]
    """`5000/tcp` to `127.0.0.1:5000`; without an address before the colon it is on all of them."""
    exit_code: int
    error: str = ""
    """Why Docker could not start it, the last time it tried."""

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def static_address(self, network: str) -> str:
        """The address on a network that it was given for good; empty where Docker chooses at each start."""
        wanted = self.endpoints.get(network, {}).get("IPAMConfig")
        return str(wanted.get("IPv4Address") or "") if isinstance(wanted, Mapping) else ""


def parse_container(facts: dict[str, Any]) -> Container:
    """An answer of `GET /containers/{id}/json` as a value."""
    state = facts["State"]
    health = state.get("Health") or {}
    attached = facts["NetworkSettings"].get("Networks") or {}
    bound = facts["HostConfig"].get("PortBindings") or {}
    return Container(
        name=str(facts["Name"]).removeprefix("/"),
        identity=str(facts["Id"]),
        image=str(facts["Config"]["Image"]),
        image_identity=str(facts["Image"]),
        labels=dict(facts["Config"].get("Labels") or {}),
        state=str(state["Status"]),
        health="" if (word := str(health.get("Status", ""))) == "none" else word,
        health_said=str((health.get("Log") or [{}])[-1].get("Output", "")).strip(),
        networks={name: str(on.get("IPAddress") or "") for name, on in attached.items()},
        joined=frozenset(name for name, on in attached.items() if on.get("EndpointID")),
        endpoints={name: _endpoint(on, str(facts["Id"])) for name, on in attached.items()},
        ports={
            inside: tuple(f"{b.get('HostIp', '')}:{b['HostPort']}" for b in outside or ())
            for inside, outside in bound.items()
        },
        exit_code=int(state.get("ExitCode") or 0),
        error=str(state.get("Error") or ""),
    )


def _endpoint(on: dict[str, Any], identity: str) -> dict[str, object]:
    """Docker adds the short Id to the aliases by itself."""
    aliases = [alias for alias in on.get("Aliases") or [] if not identity.startswith(alias)]
    return {"IPAMConfig": on.get("IPAMConfig"), "Aliases": aliases, "Links": on.get("Links")}


__all__ = ["Container", "Containers", "ExecResult"]

# Creating and starting wait for disks and iptables; a loaded machine takes its time.
CHANGE_SECONDS = 60.0
# The longest that a command in a container may be silent: `crictl pull` of a large image says nothing.
EXEC_SECONDS = 300.0
STOP_SECONDS = 10
# A string of the environment is at most 128 KiB (Linux, MAX_ARG_STRLEN).
INPUT_LIMIT = 100_000
# The input comes as a variable: a stream would have to be closed half-way, which TLS and ssh cannot.
_WITH_INPUT = 'i=$AUTOREGISTRY_INPUT; unset AUTOREGISTRY_INPUT; printf %s "$i" | "$@"'


class ExecResult(NamedTuple):
    """How a command in a container ended."""

    code: int
    stdout: str
    stderr: str


class Containers:
    """The containers and networks of one daemon. `container` is a name or an Id everywhere."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def daemon_identity(self) -> str:
        """Which daemon they are of."""
        return self._daemon.info().identity

    def list(self, *labels: str) -> list[Container]:
        """Those that carry all these labels (`app=k3d`, or just `app`), running or not, by name."""
        params = {"all": "1", "filters": json.dumps({"label": list(labels)})}
        listed = self._daemon.request("GET", "/containers/json", params=params).json()
        found = [self.inspect(str(entry["Id"])) for entry in listed]
        return sorted((c for c in found if c is not None), key=lambda c: c.name)

    def inspect(self, container: str) -> Container | None:
        answer = self._daemon.request("GET", f"/containers/{container}/json")
        return None if answer.status_code == 404 else parse_container(answer.json())

    def networks_of(self, container: str) -> frozenset[str]:
        """The names of the networks it is on; empty where it does not exist."""
        found = self.inspect(container)
        return frozenset(found.networks) if found else frozenset()

    def create(self, name: str, body: Mapping[str, object]) -> str:
        """Create a container from the body of `POST /containers/create`; its Id."""
        return str(self._change("/containers/create", {"name": name}, body).json()["Id"])

    def start(self, container: str) -> None:
        self._change(f"/containers/{container}/start")

    def stop(self, container: str, seconds: int = STOP_SECONDS) -> None:
        params = {"t": str(seconds)}
        self._change(f"/containers/{container}/stop", params, timeout=seconds + CHANGE_SECONDS)

    def restart(self, container: str, seconds: int = STOP_SECONDS) -> None:
        params = {"t": str(seconds)}
        self._change(f"/containers/{container}/restart", params, timeout=seconds + CHANGE_SECONDS)

    def rename(self, container: str, name: str) -> None:
        self._change(f"/containers/{container}/rename", {"name": name})

    def remove(self, container: str) -> None:
        """Remove it, running or not; named volumes stay. One that is gone is no error."""
        params = {"force": "1", "v": "1"}
        path = f"/containers/{container}"
        self._daemon.request("DELETE", path, params=params, timeout=CHANGE_SECONDS)

    def wait(self, container: str, timeout: float = CHANGE_SECONDS) -> int:
        """Wait for its end; the exit code."""
        answer = self._change(f"/containers/{container}/wait", timeout=timeout)
        return int(answer.json()["StatusCode"])

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = EXEC_SECONDS,
    ) -> ExecResult:
        """Run a command in it and wait for the end; `input` (small) needs a shell there.

        Raises DockerRefused where the container does not run. A program that is not there ends with 126 or 127.
        """
        identity = self._prepare(container, argv, input)
        out, err = bytearray(), bytearray()
        for kind, chunk in self._output(identity, timeout):
            (err if kind == STDERR else out).extend(chunk)
        code = self._daemon.request("GET", f"/exec/{identity}/json").json().get("ExitCode")
        text = (stream.decode(errors="replace") for stream in (out, err))
        return ExecResult(126 if code is None else int(code), *text)

    def exec_lines(self, container: str, argv: Sequence[str]) -> Iterator[str]:
        """Run a command in it for as long as it goes on, and its stdout line by line."""
        output = self._output(self._prepare(container, argv, None), None)
        yield from _lines(chunk for kind, chunk in output if kind != STDERR)

    def _prepare(self, container: str, argv: Sequence[str], input: str | None) -> str:
        words, environment = list(argv), []
        if input is not None:
            if len(input.encode()) > INPUT_LIMIT:
                raise DockerRefused(f"too much input for a command in {container}")
            words = ["sh", "-c", _WITH_INPUT, "sh", *argv]
            environment = [f"AUTOREGISTRY_INPUT={input}"]
        body = {"Cmd": words, "Env": environment, "AttachStdout": True, "AttachStderr": True}
        return str(self._change(f"/containers/{container}/exec", body=body).json()["Id"])

    def _output(self, identity: str, timeout: float | None) -> Iterator[tuple[int, bytes]]:
        body = {"Detach": False, "Tty": False}
        path = f"/exec/{identity}/start"
        with (
            translated(self._daemon.host),
            self._change(path, body=body, timeout=timeout, stream=True) as answer,
        ):
            yield from frames(answer)

    def put_file(self, container: str, path: str, content: str) -> None:
        """Write a small text file in a running container, whole or not at all; its folder is made."""
        script = """mkdir -p "${1%/*}" && cat > "$1.new" && mv "$1.new" "$1" || { rm -f "$1.new"; exit 1; }"""
        ran = self.exec(container, ["sh", "-c", script, "sh", path], input=content)
        if ran.code != 0:
            raise DockerRefused(f"{path} cannot be written in {container}: {ran.stderr.strip()}")

    def get_file(self, container: str, path: str) -> str | None:
        """The content of a small text file in a running container; None where there is none."""
        ran = self.exec(container, ["cat", path])
        return ran.stdout if ran.code == 0 else None

    def logs(
        self, container: str, *, tail: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """What it printed, line by line, stdout and stderr in one."""
        params = {"stdout": "1", "stderr": "1", "follow": str(int(follow))}
        params["tail"] = "all" if tail is None else str(tail)
        path = f"/containers/{container}/logs"
        timeout = None if follow else CHANGE_SECONDS
        answer = self._daemon.request("GET", path, params=params, timeout=timeout, stream=True)
        _found(answer)
        with translated(self._daemon.host), answer:
            yield from _lines(chunk for _, chunk in frames(answer))

    def connect(
        self, network: str, container: str, body: Mapping[str, object] | None = None
    ) -> bool:
        """Join a container to a network; whether it was not there before.

        `body` is the Engine API's `EndpointConfig`, for an address or aliases of its own.
        """
        found = self.inspect(container)
        if found and network in (found.joined if found.is_running else found.networks):
            return False
        joined = {"Container": container, "EndpointConfig": dict(body or {})}
        self._change(f"/networks/{network}/connect", body=joined)
        return True

    def disconnect(self, network: str, container: str) -> bool:
        """Take a container off a network, running or not; whether it was there before."""
        if network not in self.networks_of(container):
            return False
        self._change(
            f"/networks/{network}/disconnect", body={"Container": container, "Force": True}
        )
        return True

    def _change(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        *,
        timeout: float | None = CHANGE_SECONDS,
        stream: bool = False,
    ) -> requests.Response:
        return _found(
            self._daemon.request(
                "POST", path, params=params, json=body, timeout=timeout, stream=stream
            )
        )


def _found(answer: requests.Response) -> requests.Response:
    if answer.status_code == 404:
        raise DockerRefused(said(answer))
    return answer


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    kept = b""
    for chunk in chunks:
        *lines, kept = (kept + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    if kept:
        yield kept.decode(errors="replace")
