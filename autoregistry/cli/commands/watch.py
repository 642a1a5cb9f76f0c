"""`autoregistry watch`: the events of the proxy as they happen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import Client, proxy_client
from autoregistry.cli.output import stdout
from autoregistry.cli.push_progress import EventDisplay, event_display
from autoregistry.errors import AutoregistryError
from autoregistry.event_json import from_json

_RECONNECT_SECONDS = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")
def watch(as_json: bool) -> None:
    """Show pulls and their results, pushes and their progress, and the nodes that pull a new image.

    Runs until interrupted, and reconnects when the proxy was restarted.

    \b
    Example:
      autoregistry watch
    """
    client = proxy_client()
    with nullcontext(EventDisplay()) if as_json else event_display() as display:
        for payload in follow_events(client, display.proxy_lost):
            if as_json:
                stdout.print(json.dumps(payload), soft_wrap=True)
            elif (event := from_json(payload)) is not None:
                display.show(event)


def follow_events(client: Client, on_disconnect: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield every event from now on, also after a restart of the proxy.

    Raises ProxyUnreachable only before the first event.
    """
    after, has_begun = "", False
    while True:
        try:
            for payload in client.events(f"{api_paths.EVENTS}?after={after}"):
                has_begun, after = True, str(payload.get("id", after))
                yield payload
        except AutoregistryError:
            if not has_begun:
                raise
        on_disconnect()
        while not client.is_available():
            time.sleep(_RECONNECT_SECONDS)
