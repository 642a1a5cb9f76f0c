"""The lab's folders, and the preparation of each part exactly once.

There are two folders: the cache (large, permanent, shared by all checkouts) and the run directory (sockets and
process records, at a fixed path, because the path of a socket must be short).
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

# Read at import, because tests run without AUTOREGISTRY_* variables.
CACHE = Path(os.environ.get("AUTOREGISTRY_LAB") or Path.home() / ".cache" / "autoregistry-lab")
RUN = Path("/run/autoregistry-lab") if os.geteuid() == 0 else CACHE / "run"
LOGS = CACHE / "log"
# The checkout's folder with the pinned Go module files.
TOOLS = Path(__file__).resolve().parent.parent / "tools"
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def report(line: str) -> None:
    """Print one line of progress."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


@contextmanager
def locked(name: str, *, directory: Path = CACHE) -> Iterator[None]:
    """Hold the lock `name`, so that one process (or thread) at a time works on what it protects."""
    folder = directory / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that uses {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def timed(what: str, *, usually: int) -> Iterator[None]:
    """Report what starts and how long it usually takes, then how long it took."""
    report(f"{what} (about {usually} s)")
    start = time.monotonic()
    yield
    report(f"{what}: done in {time.monotonic() - start:.0f} s")


def once(part: str, version: str, make: Callable[[Path], None], *, usually: int) -> Path:
    """Return the folder of one part at one version, prepared now if it does not exist.

    It is prepared under another name and renamed when complete, so an interruption never leaves
    an incomplete folder.
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
        with timed(f"preparing {part} {version}, on first use only", usually=usually):
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
    """Run a command with its output in a log; an error quotes the end of the log."""
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
