"""`autoregistry push`: push images now instead of at a pull or a build."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import Client, proxy_client
from autoregistry.cli.commands import completion
from autoregistry.cli.output import stderr, stdout
from autoregistry.cli.push_progress import EventDisplay, event_display
from autoregistry.errors import AutoregistryError, ImageUnavailable, PushRefused
from autoregistry.event_json import from_json
from autoregistry.events import PushFailed, PushFinished, PushProgress, PushStarted
from autoregistry.image_state import PushState

_WAIT_SECONDS = 20
_IN_STEP = "the registry has Docker's image"


@click.command()
@completion.images_argument
def push(images: tuple[str, ...]) -> None:
    """Push images now, and wait until they are pushed. Patterns are allowed.

    A push that a pull or a build has already started is joined, not repeated. An image that was pushed manually is
    replaced only if you give its full name; a pattern leaves it as it is.

    \b
    Examples:
      autoregistry push shop/api:dev
      autoregistry push "shop/*"
    """
    client = proxy_client()
    with event_display() as display:
        # Only for the display: the results come from the response.
        threading.Thread(target=_show_pushes, args=(client, display), daemon=True).start()
        while True:
            response = client.post(api_paths.PUSH, {"images": list(images), "wait": _WAIT_SECONDS})
            if not any(push["state"] == PushState.PUSHING for push in response["images"]):
                break
    _show_results(response["images"])
    if response["unmatched"]:
        names = ", ".join(response["unmatched"])
        raise ImageUnavailable(f"Docker has no image that matches {names}", "autoregistry images")


def _show_results(pushes: list[dict[str, Any]]) -> None:
    """Print the result of each push. Raises PushRefused if one failed."""
    failed = [push for push in pushes if push["state"] == PushState.FAILED]
    for push in pushes:
        if push in failed:
            stderr.print(f"{push['image']}  {push['cause']}", style="red")
        elif push["state"] == PushState.KEPT:
            stdout.print(f"{push['image']}  kept: {push['cause']}")
            stderr.print(f"hint: autoregistry push {push['image']}", style="dim")
        else:
            stdout.print(f"{push['image']}  {push.get('sentence', _IN_STEP)}")
        if push.get("remark"):
            stderr.print(f"{push['image']}  {push['remark']}", style="yellow")
    if failed:
        names = ", ".join(push["image"] for push in failed)
        raise PushRefused(f"could not be pushed: {names}", "autoregistry logs --tail 20")


def _show_pushes(client: Client, display: EventDisplay) -> None:
    with suppress(AutoregistryError):
        for payload in client.events():
            event = from_json(payload)
            if isinstance(event, PushStarted | PushProgress | PushFinished | PushFailed):
                display.show(event, with_lines=isinstance(event, PushStarted))
