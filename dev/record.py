"""What real clients send when they push and pull, kept for the tests: `python -m dev.record`.

Stands between each client and a stock registry, passes everything on and writes it to tests/corpus. Needs the lab
and Debian's buildah. tests/integration/proxy/test_replay.py plays it again.
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
# What a registry makes up for an upload; in the corpus its number stands instead.
UPLOAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=_state=)[^&\s]+")
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")


class Tape:
    """The requests of one client, in the order in which they were answered."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._made_up: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, request: dict[str, Any], location: str) -> None:
        with self._lock:
            target = UPLOAD.sub(
                lambda hit: self._made_up.get(hit[0].replace("=", "%3D"), hit[0]), request["target"]
            )
            number = len(self.requests)
            self.requests.append({**request, "target": target})
            for i, text in enumerate(UPLOAD.findall(location)):
                self._made_up[text.replace("=", "%3D")] = f"<{number}.{i}>"


class Recorder(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    default_request_version = (
        "HTTP/1.0"  # so that a TLS hello is answered in HTTP: Docker then tries without
    )
    tape: Tape
    registry: str

    def _pass_on(self) -> None:
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
        answer = backend.getresponse()
        body = answer.read()
        self.tape.add(
            {
                "method": self.command,
                "target": self.path,
                "headers": [re.sub(r"kernel/\S+", "kernel/6.1", f"{k}: {v}") for k, v in kept],
                "body": base64.b64encode(content or b"").decode(),
            },
            answer.getheader("Location", ""),
        )
        self.send_response_only(answer.status, answer.reason)
        for key, value in answer.getheaders():
            if key.lower() != "transfer-encoding":
                self.send_header(key, value)
        if "Content-Length" not in answer.headers and self.command != "HEAD":
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
        """Nothing is said of what goes well."""


for _method in _METHODS:
    setattr(Recorder, f"do_{_method}", Recorder._pass_on)


@contextmanager
def taping(registry: lab.Registry) -> Iterator[tuple[str, Tape]]:
    """The address that clients talk to, and what they send there."""
    tape = Tape()
    handler = type("Taping", (Recorder,), {"tape": tape, "registry": f"127.0.0.1:{registry.port}"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{server.server_address[1]}", tape
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
    crane(name, folder)  # another's: the containerd store keeps for a while what it had
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
    words = ("buildah", "--storage-driver=vfs", f"--root={folder}/root", f"--runroot={folder}/run")
    image = f"docker://{name}/buildah/app:dev"
    _run(*words, "from", "--name=made", "scratch")
    _run(*words, "copy", "made", folder / "content", folder / "more", "/")
    _run(*words, "commit", "made", "made:dev")
    _run(*words, "push", "--tls-verify=false", "made:dev", image)
    _run(*words, "rmi", "--force", "--all")
    _run(*words, "pull", "--tls-verify=false", image)


def containerd(name: str, folder: Path) -> None:
    """Pulls what crane has put there, and pushes it under another name."""
    crane(name, folder)
    host = folder / "certs.d" / name
    host.mkdir(parents=True)
    (host / "hosts.toml").write_text(f'server = "http://{name}"\n[host."http://{name}"]\n')
    node = lab.containerd("2.3", folder / "certs.d")
    try:
        code, said = node.pull(f"{name}/crane/app:dev")
        assert code == 0, said
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
        with tempfile.TemporaryDirectory(dir="/tmp") as made:
            folder = Path(made)
            (folder / "content").write_text(f"of {client} {secrets.token_hex(4)}\n")
            (folder / "more").write_text("the same for all\n")
            registry = lab.start_registry(folder / "registry")
            with taping(registry) as (name, tape):
                work(name, folder)
            registry.stop()
        own = tape.requests
        lines = ",\n".join(json.dumps(request) for request in own)
        (CORPUS / f"{client}.json").write_text(f"[\n{lines}\n]\n")
        print(f"{client}: {len(own)} requests")


if __name__ == "__main__":
    main()
