"""A daemon behind TLS, chosen by DOCKER_TLS_VERIFY and DOCKER_CERT_PATH or by a context of Docker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import lab
from dev.lab import Docker, Registry
from dev.lab.registry import free_port
from tests.integration.helpers.availability import or_skip
from tests.integration.helpers.serving import Serve, build

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("classic")]

_RELAY = """
import asyncio, ssl, sys
path, port, folder = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{folder}/ca.pem")
context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server-key.pem")
context.verify_mode = ssl.CERT_REQUIRED
async def copy(reader, writer):
    while block := await reader.read(65536):
        writer.write(block); await writer.drain()
    writer.close()
async def connected(reader, writer):
    far_reader, far_writer = await asyncio.open_unix_connection(path)
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(connected, "127.0.0.1", int(port), ssl=context) as server:
        print("ready", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def engine() -> Docker:
    """One store is enough: the connection is the same."""
    return or_skip(lambda: lab.docker("classic"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority and its certificates for the daemon and a client, under the names that Docker expects."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca")
    for name, key, certificate in (
        ("server", "server-key.pem", "server.pem"),
        ("client", "key.pem", "cert.pem"),
    ):
        openssl("req", *new_key, "-keyout", key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        authority = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"]
        signed = ["-in", f"{name}.csr", "-out", certificate, "-extfile", "extensions"]
        openssl("x509", "-req", *authority, *signed)
    return folder


@pytest.fixture(scope="module")
def address(engine: Docker, certificates: Path) -> Iterator[str]:
    """The daemon behind TLS, which requires a client certificate."""
    port = free_port()
    argv = [sys.executable, "-c", _RELAY, str(engine.socket), str(port), str(certificates)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as relay:
        assert relay.stdout is not None
        relay.stdout.readline()
        yield f"tcp://127.0.0.1:{port}"
        relay.terminate()


def _by_variables(address: str, certificates: Path, _: Path) -> dict[str, str]:
    return {
        "DOCKER_HOST": address,
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(certificates),
    }


def _by_context(address: str, certificates: Path, folder: Path) -> dict[str, str]:
    files = ",".join(f"{key}={certificates}/{key}.pem" for key in ("ca", "cert", "key"))
    for arguments in (["create", "far", "--docker", f"host={address},{files}"], ["use", "far"]):
        argv = [str(lab.tool("docker-20.10")), "context", *arguments]
        subprocess.run(argv, check=True, capture_output=True, env={"DOCKER_CONFIG": str(folder)})
    return {"DOCKER_CONFIG": str(folder), "DOCKER_HOST": ""}


@pytest.mark.parametrize("chosen", [_by_variables, _by_context])
def test_daemon_behind_tls_is_asked_to_push(
    engine: Docker,
    registry: Registry,
    address: str,
    certificates: Path,
    tmp_path: Path,
    chosen: Callable[[str, Path, Path], dict[str, str]],
) -> None:
    environment = chosen(address, certificates, tmp_path / "docker")
    serve = Serve(engine, registry.url, tmp_path, ("--no-watch",), environment=environment)
    serve.start()
    try:
        build(engine, f"{serve.name}/around:tls", str(environment))
        response = serve.pull("around:tls")
    finally:
        serve.stop()

    assert response.headers["Autoregistry"] == "pushed"


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        (
            {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"},
            "/nowhere lacks",
            "ls /nowhere",
        ),
        (
            {"DOCKER_HOST": "", "DOCKER_CONTEXT": "missing"},
            "context missing does not exist",
            "docker context",
        ),
        ({}, "does not answer", "docker info"),
    ],
    ids=["no-certificates", "no-context", "no-tls"],
)
def test_wrong_connection_to_docker_is_reported_with_a_hint(
    address: str, wrong: dict[str, str], message: str, hint: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoregistry", "up"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCKER_HOST": address, **wrong},
    )

    assert done.returncode == 1
    assert message in done.stderr
    assert f"hint: {hint}" in done.stderr
