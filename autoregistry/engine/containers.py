"""The containers of one daemon: reading, changing, and joining them to networks.

Callers pass names, labels and the body of the Engine API's create request; which containers are ours, or are
nodes, is not known here. A change that is already made is not an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from autoregistry.engine.daemon import CHANGE_SECONDS, Daemon
from autoregistry.engine.streams import STDERR, frames
from autoregistry.errors import DockerRefused

# The longest silence of a command in a container: `crictl pull` of a large image prints nothing.
EXEC_SILENCE_SECONDS = 300.0
# The input comes as a variable: a stream would have to be closed half-way, which TLS and ssh cannot.
_WITH_INPUT = 'i=$AUTOREGISTRY_INPUT; unset AUTOREGISTRY_INPUT; printf %s "$i" | "$@"'


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
    """`healthy`, `unhealthy`, `starting`, or empty without a health check."""
    health_output: str
    networks: Mapping[str, str]
    """The name of each network, and the address on it."""
    joined: frozenset[str]
    """The networks with an endpoint: a `connect` that Docker refused leaves one without."""
    endpoints: Mapping[str, Mapping[str, object]]
    """For each network, what `connect` needs to join it again in the same way."""
    ports: Mapping[str, tuple[str, ...]]
    """`5000/tcp` to `127.0.0.1:5000`. Without an address before the colon it is on all of them."""
    error: str = ""
    """Why the last start failed."""

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def static_address(self, network: str) -> str:
        """Return the fixed address on a network; empty if Docker chooses one at each start."""
        config = self.endpoints.get(network, {}).get("IPAMConfig")
        return str(config.get("IPv4Address") or "") if isinstance(config, Mapping) else ""


def parse_container(facts: dict[str, Any]) -> Container:
    """Return the container that a response to `GET /containers/{id}/json` describes."""
    state = facts["State"]
    health = state.get("Health") or {}
    status = str(health.get("Status", ""))
    networks = facts["NetworkSettings"].get("Networks") or {}
    bindings = facts["HostConfig"].get("PortBindings") or {}
    return Container(
        name=str(facts["Name"]).removeprefix("/"),
        identity=str(facts["Id"]),
        image=str(facts["Config"]["Image"]),
        image_identity=str(facts["Image"]),
        labels=dict(facts["Config"].get("Labels") or {}),
        state=str(state["Status"]),
        health="" if status == "none" else status,
        health_output=str((health.get("Log") or [{}])[-1].get("Output", "")).strip(),
        networks={name: str(end.get("IPAddress") or "") for name, end in networks.items()},
        joined=frozenset(name for name, end in networks.items() if end.get("EndpointID")),
        endpoints={name: _endpoint(end, str(facts["Id"])) for name, end in networks.items()},
        ports={
            inside: tuple(f"{b.get('HostIp', '')}:{b['HostPort']}" for b in outside or ())
            for inside, outside in bindings.items()
        },
        error=str(state.get("Error") or ""),
    )


def _endpoint(end: dict[str, Any], identity: str) -> dict[str, object]:
    """Return the `EndpointConfig` of an endpoint, without the alias that Docker adds itself (the short Id)."""
    aliases = [alias for alias in end.get("Aliases") or [] if not identity.startswith(alias)]
    return {"IPAMConfig": end.get("IPAMConfig"), "Aliases": aliases, "Links": end.get("Links")}


def _identity(facts: dict[str, Any]) -> str:
    return str(facts["Id"])


class ExecResult(NamedTuple):
    code: int
    stdout: str
    stderr: str


class Containers:
    """The containers of one daemon. A parameter `container` is a name or an Id."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def daemon_identity(self) -> str:
        return self._daemon.info().identity

    def list(self, *labels: str) -> list[Container]:
        """Return the containers with all these labels (`app=k3d`, or just `app`), running or not, by name."""
        params = {"all": "1", "filters": json.dumps({"label": list(labels)})}
        identities = self._daemon.get(
            "/containers/json", lambda entries: [_identity(e) for e in entries], params=params
        )
        containers = [self.inspect(identity) for identity in identities or ()]
        return sorted((c for c in containers if c is not None), key=lambda c: c.name)

    def inspect(self, container: str) -> Container | None:
        """Return the container, or None if it does not exist."""
        return self._daemon.get(f"/containers/{container}/json", parse_container)

    def networks_of(self, container: str) -> frozenset[str]:
        """Return the names of its networks; empty if it does not exist."""
        current = self.inspect(container)
        return frozenset(current.networks) if current else frozenset()

    def create(self, name: str, body: Mapping[str, object]) -> None:
        """Create a container from the body of `POST /containers/create`."""
        self._daemon.post("/containers/create", body, name=name)

    def start(self, container: str) -> None:
        self._daemon.post(f"/containers/{container}/start")

    def stop(self, container: str, seconds: int) -> None:
        """Stop it, and kill it after so many seconds."""
        path = f"/containers/{container}/stop"
        self._daemon.post(path, timeout=seconds + CHANGE_SECONDS, t=str(seconds))

    def restart(self, container: str, seconds: int) -> None:
        """Restart it, and kill it if it does not stop within so many seconds."""
        path = f"/containers/{container}/restart"
        self._daemon.post(path, timeout=seconds + CHANGE_SECONDS, t=str(seconds))

    def rename(self, container: str, name: str) -> None:
        self._daemon.post(f"/containers/{container}/rename", name=name)

    def remove(self, container: str) -> None:
        """Remove it, running or not; named volumes stay. A container that does not exist is not an error."""
        self._daemon.delete(f"/containers/{container}", force="1", v="1")

    def wait(self, container: str, timeout: float = CHANGE_SECONDS) -> None:
        self._daemon.post(f"/containers/{container}/wait", timeout=timeout)

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = EXEC_SILENCE_SECONDS,
    ) -> ExecResult:
        """Run a command in it and wait for the end. `input` is at most 128 KiB, and needs a shell there.

        Raises DockerRefused if the container does not run. A program that does not exist ends with 126 or 127.
        """
        identity = self._create_exec(container, argv, input)
        out, err = bytearray(), bytearray()
        for kind, chunk in self._output(identity, timeout):
            (err if kind == STDERR else out).extend(chunk)
        code = self._daemon.get(f"/exec/{identity}/json", lambda facts: facts.get("ExitCode"))
        text = (stream.decode(errors="replace") for stream in (out, err))
        return ExecResult(126 if code is None else code, *text)

    def exec_lines(
        self, container: str, argv: Sequence[str], timeout: float | None = None
    ) -> Iterator[str]:
        """Run a command in it, and yield the lines of its stdout until it ends."""
        output = self._output(self._create_exec(container, argv, None), timeout)
        yield from _lines(chunk for kind, chunk in output if kind != STDERR)

    def _create_exec(self, container: str, argv: Sequence[str], input: str | None) -> str:
        command, environment = list(argv), []
        if input is not None:
            command = ["sh", "-c", _WITH_INPUT, "sh", *argv]
            environment = [f"AUTOREGISTRY_INPUT={input}"]
        body = {"Cmd": command, "Env": environment, "AttachStdout": True, "AttachStderr": True}
        response = self._daemon.post(f"/containers/{container}/exec", body)
        return self._daemon.parse(response, _identity)

    def _output(self, identity: str, timeout: float | None) -> Iterator[tuple[int, bytes]]:
        body = {"Detach": False, "Tty": False}
        path = f"/exec/{identity}/start"
        with self._daemon.stream("POST", path, timeout, json=body) as response:
            yield from frames(response)

    def put_file(self, container: str, path: str, content: str) -> None:
        """Write a small text file in a running container, completely or not at all. Its folder is created."""
        script = """mkdir -p "${1%/*}" && cat > "$1.new" && mv "$1.new" "$1" || { rm -f "$1.new"; exit 1; }"""
        result = self.exec(container, ["sh", "-c", script, "sh", path], input=content)
        if result.code != 0:
            raise DockerRefused(f"cannot write {path} in {container}: {result.stderr.strip()}")

    def get_file(self, container: str, path: str) -> str | None:
        """Return the content of a small text file in a running container, or None if it does not exist."""
        result = self.exec(container, ["cat", path])
        return result.stdout if result.code == 0 else None

    def logs(
        self, container: str, *, tail: int | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield the lines that it printed to stdout and stderr."""
        params = {"stdout": "1", "stderr": "1", "follow": str(int(follow))}
        params["tail"] = "all" if tail is None else str(tail)
        path = f"/containers/{container}/logs"
        timeout = None if follow else CHANGE_SECONDS
        with self._daemon.stream("GET", path, timeout, params=params) as response:
            yield from _lines(chunk for _, chunk in frames(response))

    def connect(
        self, network: str, container: str, body: Mapping[str, object] | None = None
    ) -> bool:
        """Join a container to a network. Return False if it was joined already.

        `body` is the Engine API's `EndpointConfig`, for an address or aliases of its own.
        """
        current = self.inspect(container)
        if current and network in (current.joined if current.is_running else current.networks):
            return False
        request = {"Container": container, "EndpointConfig": dict(body or {})}
        self._daemon.post(f"/networks/{network}/connect", request)
        return True

    def disconnect(self, network: str, container: str) -> bool:
        """Remove a container from a network, running or not. Return False if it was not joined."""
        if network not in self.networks_of(container):
            return False
        body = {"Container": container, "Force": True}
        self._daemon.post(f"/networks/{network}/disconnect", body)
        return True


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    if rest:
        yield rest.decode(errors="replace")
