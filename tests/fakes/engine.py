"""A Docker Engine in memory, on a real socket, with the containers, networks, volumes and images that `up` needs.

Containers are healthy as soon as they run. The test chooses what a command in a container prints.
"""

from __future__ import annotations

import json
import queue
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any
from urllib.parse import parse_qs, urlsplit

from autoregistry.engine.daemon import Daemon

IDENTITY = "ID-OF-THE-DAEMON"
PROBED = {"id": IDENTITY, "group": 998, "owner": 0, "as_user": True, "error": ""}
Answer = tuple[int, Any]


@dataclass
class FakeEngine:
    """One daemon. `asked` has every request that changes something, in order."""

    host: str = ""
    security: list[str] = field(default_factory=list)
    served: dict[str, str] | None = None
    """The health of a proxy at the engine's own port; None for no proxy."""
    in_registry: str | None = "sha256:pushed"
    """The digest that this Docker finds in a registry, or None."""
    images: dict[str, str] = field(
        default_factory=lambda: {"registry:2": "sha256:r2", "python:3.13-slim": "sha256:py"}
    )
    pull_error: str = ""
    build_lines: list[dict[str, Any]] = field(
        default_factory=lambda: [{"stream": "Step 1/1 : RUN pip"}]
    )
    start_error: str = ""
    health: str = "healthy"
    log: str = ""
    later_output: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    """The output of a container while its log is followed; an empty string ends it."""
    probed: dict[str, Any] = field(default_factory=lambda: dict(PROBED))
    """The output of the probe, in a trial container and in the running proxy."""
    has_dead_socket: bool = False
    """The probe in the running proxy finds no daemon, until the proxy is started again."""
    run: Callable[[list[str]], tuple[int, str]] | None = None
    """Returns the exit code and the output of any other command."""
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    created: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last create request of each name."""
    parameters: dict[str, dict[str, str]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    stopping: set[str] = field(default_factory=set)
    """Containers that are listed as running, but refuse an exec."""
    raw: dict[str, bytes] = field(default_factory=dict)
    """The exact bytes to send for a path instead of an answer."""
    _execs: dict[str, list[str]] = field(default_factory=dict)
    _number: int = 0

    @property
    def daemon(self) -> Daemon:
        return Daemon("autoregistry/test", {"DOCKER_HOST": self.host})

    @contextmanager
    def serving(self) -> Iterator[FakeEngine]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.host = f"tcp://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """Return the status and the answer: JSON, a list of JSON lines, bytes, or an iterator of bytes."""
        if path in self.raw:
            return 200, self.raw[path]
        for verb, pattern, handle in self._routes():
            if method == verb and (match := re.fullmatch(pattern, path)):
                if method != "GET":
                    self.asked.append(f"{method} {path}")
                return handle(*match.groups(), query=query, body=body)
        return 500, {"message": f"the fake engine knows no {method} {path}"}

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        return [
            (
                "GET",
                "/_autoregistry/health",
                lambda **_: (200 if self.served else 404, self.served),
            ),
            ("GET", "/version", lambda **_: (200, {"ApiVersion": "1.47"})),
            ("GET", "/info", self._info),
            ("GET", "/containers/json", self._list),
            ("POST", "/containers/create", self._create),
            ("GET", "/containers/([^/]+)/json", self._inspect),
            ("GET", "/containers/([^/]+)/logs", self._logs),
            ("POST", "/containers/([^/]+)/(start|stop|restart)", self._set),
            ("POST", "/containers/([^/]+)/wait", lambda _, **__: (200, {"StatusCode": 0})),
            ("POST", "/containers/([^/]+)/rename", self._rename),
            ("DELETE", "/containers/([^/]+)", self._remove),
            ("POST", "/containers/([^/]+)/exec", self._exec),
            ("POST", "/exec/([^/]+)/start", lambda name, **_: (200, _frame(self._ran(name)[1]))),
            (
                "GET",
                "/exec/([^/]+)/json",
                lambda name, **_: (200, {"ExitCode": self._ran(name)[0]}),
            ),
            ("POST", "/(network|volume)s/create", self._make),
            ("GET", "/(network|volume)s/([^/]+)", self._look),
            ("DELETE", "/(network|volume)s/([^/]+)", self._drop),
            ("POST", "/networks/([^/]+)/connect", self._connect),
            ("GET", "/images/json", lambda **_: (200, [{"RepoTags": list(self.images)}])),
            ("GET", "/images/(.+)/json", self._image),
            ("GET", "/distribution/(.+)/json", self._distribution),
            ("DELETE", "/images/(.+)", lambda name, **_: (200, self.images.pop(name, None))),
            ("POST", "/images/create", self._pull),
            ("POST", "/build", self._build),
        ]

    def _info(self, **_: Any) -> Answer:
        return 200, {
            "ID": IDENTITY,
            "Name": "machine",
            "ServerVersion": "28.5.2",
            "SecurityOptions": self.security,
            "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        }

    def _named(self, name: str) -> dict[str, Any] | None:
        by_identity = (c for c in self.containers.values() if c["Id"] == name)
        return self.containers.get(name) or next(by_identity, None)

    def _list(self, query: dict[str, str], **_: Any) -> Answer:
        labels = json.loads(query.get("filters", "{}")).get("label", [])
        return 200, [
            {"Id": c["Id"]}
            for c in self.containers.values()
            if all(_has(c["Config"]["Labels"], label) for label in labels)
        ]

    def _create(self, query: dict[str, str], body: dict[str, Any], **_: Any) -> Answer:
        name, host = query["name"], body["HostConfig"]
        if body["Image"] not in self.images:
            return 404, {"message": f"No such image: {body['Image']}"}
        self._number += 1
        self.created[name.removesuffix("-new")] = body
        self.containers[name] = container = {
            "Id": f"id-{self._number}",
            "Name": f"/{name}",
            "Image": self.images[body["Image"]],
            "Config": {"Image": body["Image"], "Labels": body.get("Labels") or {}},
            "HostConfig": {"PortBindings": host.get("PortBindings")},
            "State": {"Status": "created", "ExitCode": 0},
            "NetworkSettings": {"Networks": {host["NetworkMode"]: _endpoint()}},
        }
        return 201, {"Id": container["Id"]}

    def _inspect(self, name: str, **_: Any) -> Answer:
        existing = self._named(name)
        return (200, existing) if existing else (404, {"message": f"No such container: {name}"})

    def _logs(self, name: str, query: dict[str, str], **_: Any) -> Answer:
        is_probe = "probe" in self._named(name)["Name"]  # type: ignore[index]
        output = _frame(json.dumps(self.probed) if is_probe else self.log)
        if query["follow"] == "0":
            return 200, output
        return 200, chain([output], map(_frame, iter(self.later_output.get, "")))

    def _set(self, name: str, verb: str, **_: Any) -> Answer:
        existing = self._named(name)
        if existing is None:
            return 404, {"message": f"No such container: {name}"}
        if verb == "start" and self.start_error and existing["HostConfig"]["PortBindings"]:
            return 500, {"message": self.start_error}
        self.has_dead_socket &= verb == "stop" or name != "autoregistry"
        state = "exited" if verb == "stop" else "running"
        existing["State"] = {"Status": state, "ExitCode": 0, "Health": {"Status": self.health}}
        return 204, None

    def _rename(self, name: str, query: dict[str, str], **_: Any) -> Answer:
        existing = self._named(name)
        assert existing is not None
        del self.containers[existing["Name"].removeprefix("/")]
        existing["Name"] = f"/{query['name']}"
        self.containers[query["name"]] = existing
        return 204, None

    def _remove(self, name: str, **_: Any) -> Answer:
        if (existing := self._named(name)) is None:
            return 404, {"message": f"No such container: {name}"}
        del self.containers[existing["Name"].removeprefix("/")]
        return 204, None

    def _exec(self, name: str, body: dict[str, Any], **_: Any) -> Answer:
        if name in self.stopping:
            return 409, {"message": f"Container {name} is not running"}
        existing = self._named(name)
        if existing is None or existing["State"]["Status"] != "running":
            return 409, {"message": f"container {name} is not running"}
        self._number += 1
        self._execs[f"exec-{self._number}"] = body["Cmd"]
        return 201, {"Id": f"exec-{self._number}"}

    def _ran(self, name: str) -> tuple[int, str]:
        argv = self._execs[name]
        if "autoregistry.stack.socket_probe" in argv:
            return 0, json.dumps({"id": ""} if self.has_dead_socket else self.probed)
        return self.run(argv) if self.run else (127, "")

    def _table(self, kind: str) -> dict[str, dict[str, Any]]:
        return self.networks if kind == "network" else self.volumes

    def _make(self, kind: str, body: dict[str, Any], **_: Any) -> Answer:
        self._table(kind)[body["Name"]] = body
        return 201, body

    def _look(self, kind: str, name: str, **_: Any) -> Answer:
        existing = self._table(kind).get(name)
        return (200, existing) if existing else (404, {"message": f"no such {kind}: {name}"})

    def _drop(self, kind: str, name: str, **_: Any) -> Answer:
        return (404 if self._table(kind).pop(name, None) is None else 204), None

    def _connect(self, network: str, body: dict[str, Any], **_: Any) -> Answer:
        existing = self._named(body["Container"])
        assert existing is not None
        existing["NetworkSettings"]["Networks"][network] = body["EndpointConfig"] | _endpoint()
        return 200, None

    def _image(self, name: str, **_: Any) -> Answer:
        known = self.images.get(name)
        return (200, {"Id": known}) if known else (404, {"message": f"No such image: {name}"})

    def _distribution(self, name: str, **_: Any) -> Answer:
        if self.in_registry is None:
            return 404, {"message": f"{name}: not existing"}
        return 200, {"Descriptor": {"digest": self.in_registry}}

    def _pull(self, query: dict[str, str], **_: Any) -> Answer:
        if "fromSrc" in query:
            return 200, [{"status": "sha256:imported"}]
        if self.pull_error:
            return 200, [{"errorDetail": {"message": self.pull_error}}]
        self.images[query["fromImage"]] = f"sha256:{query['fromImage']}"
        moved = {"id": "layer", "status": "Downloading"}
        return 200, [{**moved, "progressDetail": {"current": 5, "total": 10}}]

    def _build(self, query: dict[str, str], **_: Any) -> Answer:
        self.parameters["build"] = query
        if not any("errorDetail" in line for line in self.build_lines):
            self.images[query["t"]] = f"sha256:{query['t']}"
        return 200, self.build_lines


def _endpoint() -> dict[str, str]:
    return {"EndpointID": "end", "IPAddress": "10.0.0.2"}


def _has(labels: dict[str, str], wanted: str) -> bool:
    name, is_valued, value = wanted.partition("=")
    return labels.get(name) == value if is_valued else name in labels


def _frame(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">BxxxL", 1, len(data)) + data


def _handler(engine: FakeEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the head and the body of a response are two writes

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _do(self) -> None:
            url = urlsplit(self.path)
            path = re.sub(r"^/v1\.\d+", "", url.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            sent = self._body()
            is_json = "json" in self.headers.get("Content-Type", "") and sent
            engine.headers[path] = dict(self.headers)
            status, answer = engine.answer(
                self.command, path, query, json.loads(sent) if is_json else sent
            )
            if isinstance(answer, Iterator):
                self._stream(answer)
                return
            if isinstance(answer, list) and path in ("/build", "/images/create"):
                data = b"".join(json.dumps(line).encode() + b"\r\n" for line in answer)
            else:
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", "0" if status == 204 else str(len(data)))
            self.end_headers()
            self.wfile.write(b"" if status == 204 else data)

        def _stream(self, chunks: Iterator[bytes]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = _do  # noqa: N815  # the base class's names

    return Handler
