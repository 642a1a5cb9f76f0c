"""`make bench`: the registry itself, a Go proxy and autoregistry, compared in one run on this machine.

Rounds are interleaved, so that load on the machine affects all of them; compare the ratios of medians, not the
figures. The blob is read from the page cache. The daemon is real, and the requested image is up to date.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from benchmarks import load
from benchmarks.crowd import crowded
from dev import lab
from dev.lab.registry import free_port
from tests.integration.helpers.serving import Serve, build

MIB = 1 << 20
BLOB_MIB = 1024
UPLOAD_MIB = 256
ROUNDS = 3
PEERS = Path(__file__).parent / "peers"
RESULTS = Path(__file__).parent / "results"

_ALONE = "p99 of GET /v2/ alone, ms"
_CROWD = "p99 among 500 connections and 10 pushes, ms"


@dataclass
class Candidate:
    """One server to measure."""

    name: str
    port: int
    pid: int | None = None

    def cpu_seconds(self) -> float:
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        if self.pid is None:
            return 0.0
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024


@contextmanager
def go_proxy(engine: lab.Docker, registry: lab.Registry, name: str) -> Iterator[Candidate]:
    """Build and run the design of the article, in Go."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peer"
        subprocess.run(["go", "build", "-o", program, "."], cwd=PEERS, check=True)
        port = free_port()
        flags = ["-listen", f"127.0.0.1:{port}", "-backend", registry.url, "-name", name]
        process = subprocess.Popen(
            [program, *flags, "-socket", str(engine.socket)], stderr=subprocess.DEVNULL
        )
        try:
            _wait(port)
            yield Candidate("Go proxy", port, process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False)
            return
        except httpx.HTTPError:
            time.sleep(0.02)
    raise TimeoutError(f"no server answers at port {port}")


def _put_blob(port: int) -> str:
    """Upload a large blob, and return its digest."""
    block = os.urandom(MIB)
    digest = hashlib.sha256()
    for _ in range(BLOB_MIB):
        digest.update(block)
    name = f"sha256:{digest.hexdigest()}"
    load.upload(port, "bench/blob", block, BLOB_MIB, digest=name)
    return name


def measure() -> dict[str, dict[str, float]]:
    """Return the medians of all figures by candidate."""
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = lab.docker("classic")
        registry = lab.start_registry(folder / "registry")
        stack.callback(registry.stop)
        ours = Serve(engine, registry.url, folder / "state", ("--no-watch",))
        began = time.monotonic()
        ours.start()
        start_up = time.monotonic() - began
        stack.callback(ours.stop)
        peer = stack.enter_context(go_proxy(engine, registry, ours.name))
        image = "bench/app:dev"
        build(engine, f"{ours.name}/{image}", "bench")
        ours.pull(image).raise_for_status()
        blob = _put_blob(registry.port)
        candidates = [
            Candidate("registry", registry.port),
            peer,
            Candidate("ours", ours.port, ours.pid),
        ]
        for number in range(ROUNDS + 1):  # the first round fills the caches
            for candidate in candidates:
                values = _round(candidate, blob, image)
                for name, value in values.items() if number else ():
                    figures[candidate.name][name].append(value)
            print(f"round {number} of {ROUNDS}", file=sys.stderr)
        for candidate in candidates:
            figures[candidate.name]["memory, MB (peak)"] = [candidate.resident_mb()]
        figures["ours"]["start-up, s"] = [start_up]
    return {n: {k: median(v) for k, v in values.items()} for n, values in figures.items()}


def _round(candidate: Candidate, blob: str, image: str) -> dict[str, float]:
    port = candidate.port
    figures: dict[str, float] = {}
    before = candidate.cpu_seconds()
    figures["GET 1 GiB, 1 connection, GB/s"] = _rate(lambda: load.get_blobs(port, blob, 1), 1)
    figures["CPU s/GB (GET)"] = (candidate.cpu_seconds() - before) / (BLOB_MIB * MIB / 1e9)
    figures["GET 1 GiB, 3 connections, GB/s"] = _rate(lambda: load.get_blobs(port, blob, 3), 3)
    for how in ("sized", "chunked"):
        block = os.urandom(MIB)
        size = UPLOAD_MIB / BLOB_MIB
        figures[f"upload 256 MiB {how}, GB/s"] = _rate(
            lambda b=block, h=how: load.upload(
                port, "bench/up", b, UPLOAD_MIB, chunked=h == "chunked"
            ),  # type: ignore[misc]
            size,
        )
    figures[_ALONE] = load.p99(port, 200) * 1000
    with crowded(port, blob):
        figures[_CROWD] = load.p99(port, 200) * 1000
    for clients, count in ((1, 300), (16, 800), (64, 1600)):
        p50, rate = load.heads(port, image, clients, count)
        figures[f"HEAD p50, {clients} clients, ms"] = p50 * 1000
        figures[f"HEAD/s, {clients} clients"] = rate
    return figures


def _rate(work: Callable[[], None], gibibytes: float) -> float:
    began = time.monotonic()
    work()
    return gibibytes * BLOB_MIB * MIB / 1e9 / (time.monotonic() - began)


def table(figures: dict[str, dict[str, float]]) -> str:
    """Return a table of the figures, with the ratio of autoregistry to the Go proxy."""
    names = list(figures["ours"])
    lines = ["| | registry itself | Go proxy | ours | ours / Go |", "|---|---|---|---|---|"]
    for name in names:
        direct, go, ours = (figures[c].get(name, 0) for c in ("registry", "Go proxy", "ours"))
        ratio = f"{ours / go:.2f}" if go else "-"
        cells = [f"{value:.3g}" if value else "-" for value in (direct, go, ours)]
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def verdicts(figures: dict[str, dict[str, float]]) -> str:
    """Return a table of the required figures, the measured ones, and the results."""
    ours, go = figures["ours"], figures["Go proxy"]

    def of_go(name: str) -> float:
        return ours[name] / go[name]

    crowd = {name: values[_CROWD] / values[_ALONE] for name, values in figures.items()}
    others = f"(registry {crowd['registry']:.3g}, Go proxy {crowd['Go proxy']:.3g})"
    uploads = min(of_go(f"upload 256 MiB {how}, GB/s") for how in ("sized", "chunked"))
    measured = (
        (
            "blob GET, 1 connection / Go",
            "at least 0.8",
            of_go("GET 1 GiB, 1 connection, GB/s"),
            0.8,
        ),
        ("uploads / Go", "at least 0.95", uploads, 0.95),
        ("HEAD/s, 64 clients / Go", "at least 1", of_go("HEAD/s, 64 clients"), 1),
        ("HEAD p50, 1 client / Go", "at most 1.3", -of_go("HEAD p50, 1 clients, ms"), -1.3),
        ("memory, MB (peak)", "under 100", -ours["memory, MB (peak)"], -100),
        (f"p99 in the crowd / alone {others}", "at most 3", -crowd["ours"], -3),
    )
    lines = ["| figure | required | measured | |", "|---|---|---|---|"]
    for name, required, value, least in measured:
        lines.append(
            f"| {name} | {required} | {abs(value):.3g} | {'met' if value >= least else 'missed'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    figures = measure()
    RESULTS.mkdir(exist_ok=True)
    text = f"{verdicts(figures)}\n{table(figures)}"
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, distribution 2.8.2, Docker 20.10"
    (RESULTS / "proxy.md").write_text(
        f"# The proxy, {time.strftime('%Y-%m-%d')}\n\n{machine}\n\n{text}"
    )
    (RESULTS / "proxy.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
