"""The event bus of the composition root."""

from __future__ import annotations

from autoregistry.events import Event, Notice
from autoregistry.proxy.app import EventBus


def test_error_of_one_subscriber_is_reported_and_does_not_reach_the_emitter() -> None:
    seen: list[Event] = []

    def fail(event: Event) -> None:
        raise KeyError("digest")

    bus = EventBus()
    bus.subscribe(fail)
    bus.subscribe(seen.append)
    bus.emit(Notice("a push has finished"))

    assert len(seen) == 2
    assert "KeyError: 'digest'" in str(seen[0])
    assert seen[1] == Notice("a push has finished")


def test_hidden_event_reaches_no_subscriber() -> None:
    seen: list[Event] = []
    bus = EventBus()
    bus.subscribe(seen.append)
    bus.is_hidden = lambda event: event == Notice("hidden")
    bus.emit(Notice("hidden"))
    bus.emit(Notice("shown"))

    assert seen == [Notice("shown")]
