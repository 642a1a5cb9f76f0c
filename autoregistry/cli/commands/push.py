"""`autoregistry push`: by hand what a pull, or a build, does by itself."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import Client, proxy_client
from autoregistry.cli.commands import completion
from autoregistry.cli.output import stderr, stdout
from autoregistry.cli.push_progress import Board, board
from autoregistry.errors import AutoregistryError, ImageUnavailable, PushRefused
from autoregistry.event_json import from_json
from autoregistry.events import PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.image_state import PushState

_WAIT_SECONDS = 20
_IN_STEP = "the registry has Docker's image"


@click.command()
@click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=completion.images
)
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
    with board() as shown:
        # For the display alone: how it ended is what the proxy answers.
        threading.Thread(target=_show, args=(client, shown), daemon=True).start()
        while True:
            said = client.post(api_paths.PUSH, {"images": list(images), "wait": _WAIT_SECONDS})
            if not any(state["state"] == PushState.PUSHING for state in said["images"]):
                break
    _show_ends(said["images"])
    if said["unmatched"]:
        missing = ", ".join(said["unmatched"])
        raise ImageUnavailable(
            f"Docker has no image {missing} under our name", "autoregistry images"
        )


def _show_ends(states: list[dict[str, Any]]) -> None:
    """How each push ended. Raises PushRefused where one failed."""
    failed = [state for state in states if state["state"] == PushState.FAILED]
    for state in states:
        if state in failed:
            stderr.print(f"{state['image']}  {state['cause']}", style="red")
        else:
            stdout.print(f"{state['image']}  {state.get('sentence', _IN_STEP)}")
        if state.get("remark"):
            stderr.print(f"{state['image']}  {state['remark']}", style="yellow")
    if failed:
        names = ", ".join(state["image"] for state in failed)
        raise PushRefused(f"could not be pushed: {names}", "autoregistry logs --tail 20")


def _show(client: Client, shown: Board) -> None:
    with suppress(AutoregistryError):
        for said in client.events():
            event = from_json(said)
            if isinstance(event, PushStarted | PushProgress | PushFinished | PushFailed):
                shown.show(event, with_lines=isinstance(event, PushStarted))
