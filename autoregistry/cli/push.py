"""`autoregistry push`: by hand what a pull, or a build, does by itself."""

from __future__ import annotations

from typing import Any

import click

from autoregistry.cli.board import Board, board
from autoregistry.cli.client import Client, proxy_client
from autoregistry.cli.output import stderr
from autoregistry.cli.watch import EVENTS
from autoregistry.errors import ImageUnavailable, PushRefused
from autoregistry.events import PushFailed, PushFinished
from autoregistry.proxy.codec import from_json


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def push(images: tuple[str, ...]) -> None:
    """Push images now, and wait for it; patterns are allowed.

    Joins the very push that a pull would cause, so nothing is pushed twice. Docker's image wins over one that was
    pushed by hand.

    \b
    Examples:
      autoregistry push shop/api:dev
      autoregistry push "shop/*"
    """
    client = proxy_client()
    said = client.post("/_autoregistry/push", {"images": list(images)})
    if said["unmatched"]:
        missing = ", ".join(said["unmatched"])
        raise ImageUnavailable(
            f"Docker has no image {missing} under our name", "autoregistry images"
        )
    waiting = set()
    failed = []
    with board() as shown:
        for state in said["images"]:
            match state["state"]:
                case "pushing":
                    waiting.add(state["image"])
                case "failed":
                    failed.append(state["image"])
                    stderr.print(f"{state['image']}  {state['cause']}", style="red")
                case _:
                    stderr.print(f"{state['image']}  the registry has Docker's image")
        failed += _follow(client, shown, waiting, said["last_event_id"])
    if failed:
        raise PushRefused(
            f"could not be pushed: {', '.join(failed)}", "autoregistry logs --tail 20"
        )


def _follow(client: Client, shown: Board, waiting: set[str], after: str) -> list[str]:
    """Show these pushes until each has ended; those that failed."""
    failed: list[str] = []
    if not waiting:
        return failed
    for said in client.events(f"{EVENTS}?after={after}"):
        if str(said.get("image")) not in waiting:
            continue
        event: Any = from_json(said)
        if event is not None:
            shown.show(event)
        if isinstance(event, PushFailed):
            failed.append(str(event.image))
        if isinstance(event, PushFailed | PushFinished):
            waiting.discard(str(event.image))
        if not waiting:
            break
    return failed
