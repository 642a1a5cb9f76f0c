"""The type names of events, which programs read."""

from __future__ import annotations

from autoregistry.event_json import to_json
from tests.helpers.sample_events import EVENTS


def test_type_names_of_events_do_not_change() -> None:
    expected = {
        "pull-seen",
        "pull-answered",
        "push-started",
        "push-progress",
        "push-finished",
        "push-failed",
        "hand-push-seen",
        "node-refreshing",
        "node-refreshed",
        "workload-restarted",
        "notice",
    }

    assert expected == {to_json(event)["type"] for event in EVENTS}
