"""Numbers for Prometheus: what happened, counted from the same events that everything else draws from.

Labels have few values, all of them ours (an answer's word, how something ended): an image, a client or a node
never becomes one, since whoever asks could then make series without end.
"""

from __future__ import annotations

from collections.abc import Callable

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

from autoregistry.events import (
    Answer,
    Event,
    HandPushSeen,
    NodeRefreshed,
    Notice,
    PullAnswered,
    PushFailed,
    PushFinished,
    WorkloadRestarted,
)

# An up-to-date pull takes milliseconds, one that waits for a push as long as the client's patience.
_PULL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 300, 600)
_PUSH_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUESTION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """Takes every event, and answers `/_autoregistry/metrics`."""

    def __init__(self, version: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("autoregistry_build", "What runs.", registry=registry).info({"version": version})
        self._pulls = Histogram(
            "autoregistry_pull_seconds",
            "From a question for a manifest to its answer, by verdict.",
            ("answer",),
            buckets=_PULL_SECONDS,
            registry=registry,
        )
        self._pushes = Histogram(
            "autoregistry_push_seconds",
            "Pushes by Docker that brought the registry to what Docker has.",
            buckets=_PUSH_SECONDS,
            registry=registry,
        )
        self._pushed_bytes = Counter(
            "autoregistry_pushed_bytes", "Bytes of layers that Docker pushed.", registry=registry
        )
        self._failures = Counter(
            "autoregistry_push_failures", "Pushes that ended with an error.", registry=registry
        )
        self._hand_pushes = Counter(
            "autoregistry_hand_pushes", "Tags set by somebody else's push.", registry=registry
        )
        self._refreshes = Histogram(
            "autoregistry_node_refresh_seconds",
            "Pulls that nodes were made to do, by how they ended.",
            ("result",),
            buckets=_PUSH_SECONDS,
            registry=registry,
        )
        self._restarts = Counter(
            "autoregistry_workload_restarts", "Workloads restarted.", registry=registry
        )
        self._notices = Counter(
            "autoregistry_notices", "Sentences of warning to people.", registry=registry
        )
        self._questions = Histogram(
            "autoregistry_question_seconds",
            "How long Docker and the registry behind took to answer a question.",
            ("to", "result"),
            buckets=_QUESTION_SECONDS,
            registry=registry,
        )
        for answer in Answer:  # a rate over something never seen is 0, not absent
            if answer.status is None or answer in (Answer.PUSHING, Answer.PUSH_FAILED):
                self._pulls.labels(answer.word)
        for result in ("ok", "failed"):
            self._refreshes.labels(result)
            for to in ("docker", "backend"):
                self._questions.labels(to, result)

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
            case HandPushSeen():
                self._hand_pushes.inc()
            case NodeRefreshed(seconds=seconds, cause=cause):
                self._refreshes.labels("failed" if cause else "ok").observe(seconds)
            case WorkloadRestarted():
                self._restarts.inc()
            case Notice():
                self._notices.inc()
            case _:
                pass

    def docker_asked(self, seconds: float, result: str) -> None:
        """Docker was asked something; `result` is `ok` or `failed`."""
        self._questions.labels("docker", result).observe(seconds)

    def backend_asked(self, seconds: float, result: str) -> None:
        """A request went to the registry behind; `seconds` until its answer began."""
        self._questions.labels("backend", result).observe(seconds)

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A number that is looked up whenever Prometheus asks."""
        made = Gauge(f"autoregistry_{name}", about, registry=self._registry)
        made.set_function(value)

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /_autoregistry/metrics`, in the form that the client likes best."""
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version in it that is no number
            encode, content_type = choose_encoder("")
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return web.Response(body=encode(self._registry), headers=headers)
