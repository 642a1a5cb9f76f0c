"""Recordings of the requests of real clients that push and pull: `python -m dev.record`.

The recorder stands between each client and a stock registry, forwards all requests and writes them to tests/corpus.
It needs the lab and Debian's buildah. tests/integration/proxy/test_replay.py sends the requests again.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dev import lab
from dev.lab import debian

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"
# The names that a registry invents for an upload; a recording has numbers instead.
UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=_state=)[^&\s]+")
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")


class Recording:
    """The requests of one client, in the order of their responses."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._invented: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, request: dict[str, Any], location: str) -> None:
        with self._lock:
            target = UPLOAD.sub(
                lambda hit: self._invented.get(hit[0].replace("=", "%3D"), hit[0]),
                request["target"],
            )
            number = len(self.requests)
            self.requests.append({**request, "target": target})
            for i, text in enumerate(UPLOAD.findall(location)):
                self._invented[text.replace("=", "%3D")] = f"<{number}.{i}>"


class Recorder(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    default_request_version = (
        "HTTP/1.0"  # the response to a TLS hello is then HTTP, and Docker tries again without TLS
    )
    recording: Recording
    registry: str

    def _forward(self) -> None:
        content = self._body()
        kept = [(k, v) for k, v in self.headers.items() if k.lower() != "expect"]
        backend = http.client.HTTPConnection(self.registry)
        backend.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for key, value in kept:
            if key.lower() != "transfer-encoding":
                backend.putheader(key, value)
        if content is not None and "Content-Length" not in self.headers:
            backend.putheader("Content-Length", str(len(content)))
        backend.endheaders(content)
        response = backend.getresponse()
        body = response.read()
        self.recording.add(
            {
                "method": self.command,
                "target": self.path,
                "headers": [re.sub(r"kernel/\S+", "kernel/6.1", f"{k}: {v}") for k, v in kept],
                "body": base64.b64encode(content or b"").decode(),
            },
            response.getheader("Location", ""),
        )
        self.send_response_only(response.status, response.reason)
        for key, value in response.getheaders():
            if key.lower() != "transfer-encoding":
                self.send_header(key, value)
        if "Content-Length" not in response.headers and self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        backend.close()

    def _body(self) -> bytes | None:
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        if not self.headers.get("Transfer-Encoding"):
            return None
        content = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def log_message(self, *_: object) -> None:
        """Print nothing."""


for _method in _METHODS:
    setattr(Recorder, f"do_{_method}", Recorder._forward)


@contextmanager
def recording_requests(registry: lab.Registry) -> Iterator[tuple[str, Recording]]:
    """Yield the address for clients, and the recording of their requests."""
    recording = Recording()
    handler = type(
        "Handler", (Recorder,), {"recording": recording, "registry": f"127.0.0.1:{registry.port}"}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{server.server_address[1]}", recording
    finally:
        server.shutdown()
        server.server_close()


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=300)


def docker(store: str, name: str, folder: Path) -> None:
    engine = lab.docker("classic" if store == "classic" else "containerd")
    image = f"{name}/docker/{store}:dev"
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY content /\nCOPY more /\n")
    plain = {"DOCKER_BUILDKIT": "0"} if store == "classic" else {}
    engine.cli("build", "--quiet", "--tag", image, folder, env=plain)
    engine.cli("push", image)
    engine.cli("push", image)
    engine.cli("rmi", image)
    crane(
        name, folder
    )  # not Docker's image: the containerd store keeps removed content for a while
    engine.cli("pull", f"{name}/crane/app:dev")
    engine.cli("rmi", f"{name}/crane/app:dev")


def crane(name: str, folder: Path) -> None:
    program, image = lab.tool("crane"), f"{name}/crane/app:dev"
    _run("tar", "-C", folder, "-cf", folder / "layer.tar", "content", "more")
    _run(program, "append", "--new_layer", folder / "layer.tar", "--new_tag", image)
    _run(program, "digest", image)
    _run(program, "pull", "--format=oci", image, folder / "pulled")
    _run(program, "copy", image, f"{name}/crane/other:dev")


def skopeo(name: str, folder: Path) -> None:
    crane(name, folder)
    program, image = lab.tool("skopeo"), f"docker://{name}/skopeo/app:dev"
    _run(program, "copy", "--dest-tls-verify=false", f"oci:{folder}/pulled", image)
    _run(program, "inspect", "--tls-verify=false", image)
    _run(program, "copy", "--src-tls-verify=false", image, f"oci:{folder}/again")


def buildah(name: str, folder: Path) -> None:
    debian.install("buildah")
    command = (
        "buildah",
        "--storage-driver=vfs",
        f"--root={folder}/root",
        f"--runroot={folder}/run",
    )
    image = f"docker://{name}/buildah/app:dev"
    _run(*command, "from", "--name=built", "scratch")
    _run(*command, "copy", "built", folder / "content", folder / "more", "/")
    _run(*command, "commit", "built", "built:dev")
    _run(*command, "push", "--tls-verify=false", "built:dev", image)
    _run(*command, "rmi", "--force", "--all")
    _run(*command, "pull", "--tls-verify=false", image)


def containerd(name: str, folder: Path) -> None:
    """Pull the image of crane, and push it under another name."""
    crane(name, folder)
    host = folder / "certs.d" / name
    host.mkdir(parents=True)
    (host / "hosts.toml").write_text(f'server = "http://{name}"\n[host."http://{name}"]\n')
    node = lab.containerd("2.3", folder / "certs.d")
    try:
        code, output = node.pull(f"{name}/crane/app:dev")
        assert code == 0, output
        pushed = node.ctr(
            *("images", "push", "--local", "--plain-http"),
            *(f"{name}/containerd/app:dev", f"{name}/crane/app:dev"),
        )
        assert pushed.returncode == 0, pushed.stdout
    finally:
        node.stop()


CLIENTS = {
    "docker-classic": lambda name, folder: docker("classic", name, folder),
    "docker-containerd": lambda name, folder: docker("containerd", name, folder),
    "crane": crane,
    "skopeo": skopeo,
    "buildah": buildah,
    "containerd": containerd,
}


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for client, work in CLIENTS.items():
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            folder = Path(directory)
            (folder / "content").write_text(f"of {client} {secrets.token_hex(4)}\n")
            (folder / "more").write_text("the same for all\n")
            registry = lab.start_registry(folder / "registry")
            with recording_requests(registry) as (name, recording):
                work(name, folder)
            registry.stop()
        requests = recording.requests
        lines = ",\n".join(json.dumps(request) for request in requests)
        (CORPUS / f"{client}.json").write_text(f"[\n{lines}\n]\n")
        print(f"{client}: {len(requests)} requests")


if __name__ == "__main__":
    main()
