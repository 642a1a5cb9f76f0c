"""`python -m dev.lab up [PART...] | down | status | env [classic|containerd]`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from dev.lab.cache import CACHE, report
from dev.lab.dockerd import docker
from dev.lab.errors import LabError
from dev.lab.parts import PARTS, down, status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error is one message with the end of the log that explains it."""
    parser = argparse.ArgumentParser(prog="python -m dev.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="prepare parts: the two daemons, or those named")
    up.add_argument("part", nargs="*", metavar="PART", default=[])
    commands.add_parser("down", help="stop the processes of the lab; its cache stays")
    commands.add_parser("status", help="list running processes and prepared parts")
    env = commands.add_parser(
        "env", help="print exports for a shell: eval $(python -m dev.lab env)"
    )
    env.add_argument("store", nargs="?", choices=["classic", "containerd"], default="containerd")
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "up":
                wanted = options.part or ["classic", "containerd"]
                for part in PARTS if "all" in wanted else wanted:
                    report(f"{part}: {PARTS[part]()}")
            case "down":
                down()
            case "status":
                print(f"cache       {CACHE}")
                print("\n".join(status()))
            case "env":
                daemon = docker(options.store)
                for name, value in daemon.environment.items():
                    path = os.environ.get("PATH", "")
                    text = shlex.quote(value)
                    if name == "PATH" and value.endswith(f":{path}"):
                        text = f'{shlex.quote(value.removesuffix(f":{path}"))}:"$PATH"'
                    print(f"export {name}={text}")
    except LabError as error:
        report(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
