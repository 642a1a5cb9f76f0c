"""Where the lab keeps things, and how a part is made exactly once.

Two places: the cache (big, survives, shared by all checkouts) and the run directory (sockets and
process records, the same path for everybody because a socket's path must be short and fixed).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dev.lab.errors import LabError, tail

# Read once, at import: tests clear AUTOREGISTRY_* from the environment before each test.
CACHE = Path(os.environ.get("AUTOREGISTRY_LAB") or Path.home() / ".cache" / "autoregistry-lab")
RUN = Path("/run/autoregistry-lab") if os.geteuid() == 0 else CACHE / "run"
LOGS = CACHE / "log"
# A checkout's own folder with the pinned Go module files.
TOOLS = Path(__file__).resolve().parent.parent / "tools"
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def say(line: str) -> None:
    """One line of the story, for people, as it happens."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


@contextmanager
def locked(name: str, *, directory: Path = CACHE) -> Iterator[None]:
    """Only one process (or thread) at a time works on what `name` stands for."""
    folder = directory / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is busy with {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def telling(what: str, *, usually: int) -> Iterator[None]:
    """Say what starts and how long it usually takes, then how long it took."""
    say(f"{what} (usually {usually} s)")
    start = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - start:.0f} s")


def once(part: str, version: str, make: Callable[[Path], None], *, usually: int) -> Path:
    """The folder of one part at one version, made now if it is not there yet.

    It is made beside its final place and moved there when complete: whatever is interrupted, a
    folder of that name is whole.
    """
    final = CACHE / "parts" / f"{part}-{version}"
    if final.is_dir():
        return final
    with locked(part):
        if final.is_dir():
            return final
        draft = final.with_name(f".draft-{part}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with telling(f"making {part} {version}", usually=usually):
            make(draft)
        draft.rename(final)
    return final


def run(
    argv: Sequence[str | Path],
    *,
    log: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a command to its end with its output in a log; its failure quotes the log."""
    path = LOGS / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as sink:
        sink.write(f"$ {' '.join(map(str, argv))}\n".encode())
        sink.flush()
        try:
            done = subprocess.run(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                check=False,
            )
        except FileNotFoundError as exc:
            raise LabError(f"{argv[0]} is not installed ({exc})") from exc
    if done.returncode != 0:
        raise LabError(f"{argv[0]} ended with {done.returncode}\n{tail(path)}")
