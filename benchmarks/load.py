"""Clients with little overhead: plain sockets, and threads or tasks where several are needed."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from autoregistry.names import MANIFEST_TYPES

MIB = 1 << 20


def get_blobs(port: int, digest: str, connections: int) -> None:
    """Download the blob over several connections at once, and discard it."""
    with ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(_get_blob, port, digest) for _ in range(connections)]:
            done.result()


def _get_blob(port: int, digest: str) -> None:
    buffer = memoryview(bytearray(MIB))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = f"GET /v2/bench/blob/blobs/{digest} HTTP/1.1\r\nHost: localhost:{port}\r\n"
        connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
        if not bytes(buffer[: connection.recv_into(buffer)]).startswith(b"HTTP/1.1 200"):
            raise ConnectionError("no blob")
        while connection.recv_into(buffer):
            pass


def upload(
    port: int, repository: str, block: bytes, count: int, *, digest: str = "", chunked: bool = False
) -> None:
    """Upload a blob of `count` blocks like containerd (one PUT with a size) or Docker (chunked PATCH)."""
    if not digest:
        whole = hashlib.sha256()
        for _ in range(count):
            whole.update(block)
        digest = f"sha256:{whole.hexdigest()}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", f"/v2/{repository}/blobs/uploads/")
    location = path_of(connection, 202)
    blocks = (block for _ in range(count))
    if chunked:
        connection.request("PATCH", location, body=blocks, encode_chunked=True)
        location = path_of(connection, 202)
        connection.request("PUT", f"{location}&digest={digest}", body=b"")
    else:
        headers = {"Content-Length": str(len(block) * count)}
        connection.request("PUT", f"{location}&digest={digest}", body=blocks, headers=headers)
    path_of(connection, 201)
    connection.close()


def path_of(connection: http.client.HTTPConnection, status: int) -> str:
    """Return the path of the response's Location."""
    response = connection.getresponse()
    content = response.read()
    if response.status != status:
        raise ConnectionError(f"{response.status} {response.reason}: {content[:200]!r}")
    location = str(response.getheader("Location"))
    return "/" + location.split("/", 3)[3]


def heads(port: int, image: str, clients: int, count: int) -> tuple[float, float]:
    """Request a manifest over open connections; return the median in seconds and the requests per second."""
    return asyncio.run(_heads(port, image, clients, count))


def p99(port: int, count: int) -> float:
    """Return the 99th percentile of the seconds that `GET /v2/` takes over one open connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", "/v2/")
        connection.getresponse().read()
        took.append(time.perf_counter() - began)
    connection.close()
    return sorted(took)[count * 99 // 100 - 1]


async def _heads(port: int, image: str, clients: int, count: int) -> tuple[float, float]:
    repository, _, tag = image.partition(":")
    request = (
        f"HEAD /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"User-Agent: containerd/2.3.7\r\nAccept: {', '.join(MANIFEST_TYPES)}, */*\r\n\r\n"
    ).encode()
    took: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count // clients):
            began = time.perf_counter()
            writer.write(request)
            if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
                raise ConnectionError("no manifest")
            took.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return median(took), len(took) / (time.perf_counter() - began)
