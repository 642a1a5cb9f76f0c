"""`autoregistry watch`: what the proxy does, as it does it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from autoregistry import api_paths
from autoregistry.cli.client import Client, proxy_client
from autoregistry.cli.output import stdout
from autoregistry.cli.push_progress import Board, board
from autoregistry.errors import AutoregistryError
from autoregistry.event_json import from_json

_AGAIN_SECONDS = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
def watch(as_json: bool) -> None:
    """Show pulls with their verdicts, pushes with their progress, and the nodes as they follow.

    Until interrupted; comes back by itself when the proxy was restarted.

    \b
    Example:
      autoregistry watch
    """
    client = proxy_client()
    if as_json:
        for said in following(client, Board(None).away):
            stdout.print(json.dumps(said), soft_wrap=True)
        return
    with board() as shown:
        for said in following(client, shown.away):
            if (event := from_json(said)) is not None:
                shown.show(event)


def following(client: Client, away: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Every event from now on, also over a restart of the proxy. Raises ProxyUnreachable at the start only."""
    after, has_begun = "", False
    while True:
        try:
            for said in client.events(f"{api_paths.EVENTS}?after={after}"):
                has_begun, after = True, str(said.get("id", after))
                yield said
        except AutoregistryError:
            if not has_begun:
                raise
        away()
        while not client.is_there():
            time.sleep(_AGAIN_SECONDS)
