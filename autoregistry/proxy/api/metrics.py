"""Prometheus metrics, counted from the events of the proxy.

Labels have few values, all fixed by us (the word of an answer, a result). An image, a client or a node is never a label
value, because a client could then create any number of series.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from autoregistry import __version__
from autoregistry.events import (
    Answer,
    Event,
    ManualPushSeen,
    NodeRefreshed,
    Notice,
    PullAnswered,
    PushFailed,
    PushFinished,
    WorkloadRestarted,
)

# An up-to-date pull takes milliseconds; one that waits for a push takes as long as the client waits.
_PULL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 300, 600)
_PUSH_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_RESPONSE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """Counts events, and serves `/_autoregistry/metrics`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Info("autoregistry_build", "The running version.", registry=self._registry)
        build.info({"version": __version__})
        counter = partial(Counter, namespace="autoregistry", registry=self._registry)
        histogram = partial(Histogram, namespace="autoregistry", registry=self._registry)
        about = "Time from a manifest request to its response."
        self._pulls = histogram("pull_seconds", about, ["answer"], buckets=_PULL_BUCKETS)
        about = "Duration of successful pushes by Docker."
        self._pushes = histogram("push_seconds", about, buckets=_PUSH_BUCKETS)
        self._pushed_bytes = counter("pushed_bytes", "Bytes of layers pushed by Docker.")
        self._failures = counter("push_failures", "Failed pushes.")
        self._manual_pushes = counter("hand_pushes", "Tags set by pushes of other clients.")
        about = "Duration of pulls by refreshed nodes."
        self._refreshes = histogram(
            "node_refresh_seconds", about, ["result"], buckets=_PUSH_BUCKETS
        )
        self._restarts = counter("workload_restarts", "Restarted workloads.")
        self._notices = counter("notices", "Warnings to the user.")
        about = "Response time of Docker and of the backend."
        self._responses = histogram(
            "question_seconds", about, ["to", "result"], buckets=_RESPONSE_BUCKETS
        )
        for answer in Answer:  # so that the rate of a series without events is 0, not absent
            if answer.status is None or answer in (Answer.PUSHING, Answer.PUSH_FAILED):
                self._pulls.labels(answer.word)
        for result in ("ok", "failed"):
            self._refreshes.labels(result)
            for to in ("docker", "backend"):
                self._responses.labels(to, result)

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case PullAnswered(answer=answer, seconds=seconds):
                self._pulls.labels(answer.word).observe(seconds)
            case PushFinished(pushed_bytes=pushed_bytes, seconds=seconds):
                self._pushes.observe(seconds)
                self._pushed_bytes.inc(pushed_bytes)
            case PushFailed():
                self._failures.inc()
            case ManualPushSeen():
                self._manual_pushes.inc()
            case NodeRefreshed(seconds=seconds, cause=cause):
                self._refreshes.labels("failed" if cause else "ok").observe(seconds)
            case WorkloadRestarted():
                self._restarts.inc()
            case Notice():
                self._notices.inc()

    def asked(self, to: str, seconds: float, result: str) -> None:
        """Record a response of `docker` or `backend`: the seconds until it began, and `ok` or `failed`."""
        self._responses.labels(to, result).observe(seconds)

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read at each scrape."""
        gauge = Gauge(name, about, namespace="autoregistry", registry=self._registry)
        gauge.set_function(value)

    async def metrics(self, request: web.Request) -> web.Response:
        """Serve `GET /_autoregistry/metrics` in the format that the client prefers."""
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # it contains a version that is not a number
            encode, content_type = choose_encoder("")
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return web.Response(body=encode(self._registry), headers=headers)
