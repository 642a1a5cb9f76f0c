"""Metrics: the exposition format, the counts, and that no client can create series."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from autoregistry.proxy.api.metrics import Metrics
from tests.helpers.proxy_lab import NAME, Lab
from tests.helpers.sample_events import EVENTS

APP = f"{NAME}/app:dev"
DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana-dashboard.json"
LABELS = {"answer", "le", "result", "to", "version"}


async def _families(lab: Lab) -> dict[str, Metric]:
    response = await lab.client.get("/_autoregistry/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    parsed = text_string_to_metric_families(response.text)
    return {family.name: family for family in parsed}


def _value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    values = [
        s.value
        for family in families.values()
        for s in family.samples
        if s.name == sample and labels.items() <= s.labels.items()
    ]
    assert len(values) == 1, (sample, labels, values)
    return values[0]


async def test_a_pull_and_its_push_are_counted(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    await lab.pull()

    families = await _families(lab)

    assert _value(families, "autoregistry_pull_seconds_count", answer="pushed") == 1
    assert _value(families, "autoregistry_pull_seconds_count", answer="up-to-date") == 1
    assert _value(families, "autoregistry_pull_seconds_count", answer="push-failed") == 0
    assert _value(families, "autoregistry_push_seconds_count") == 1
    assert _value(families, "autoregistry_pushed_bytes_total") == 1000
    assert _value(families, "autoregistry_pushes_running") == 0
    assert _value(families, "autoregistry_docker_up") == 1
    for to in ("docker", "backend"):
        assert _value(families, "autoregistry_question_seconds_count", to=to, result="ok") > 0


async def test_a_client_that_accepts_openmetrics_gets_it(lab: Lab) -> None:
    response = await lab.client.get(
        "/_autoregistry/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )

    parsed = openmetrics(response.text)  # type: ignore[no-untyped-call]
    assert "autoregistry_pushes_running" in {family.name for family in parsed}


async def test_names_follow_the_rules_of_promtool(lab: Lab) -> None:
    families = await _families(lab)
    wrong = [
        name
        for name, family in families.items()
        if not re.fullmatch("(autoregistry|process|python)(_[a-z]+)+", name)
        or re.search("_(ms|milliseconds|minutes|mb|kb|gauge|counter|histogram)(_|$)", name)
        or not family.documentation.strip()
        or (family.type == "histogram" and not name.endswith("_seconds"))
        or (family.type != "histogram" and re.search("_(count|sum|bucket)$", name))
        or (family.type == "counter")
        != any(sample.name.endswith("_total") for sample in family.samples)
    ]

    assert wrong == []


async def _series(lab: Lab) -> set[str]:
    return {
        f"{s.name} {sorted(s.labels.items())}"
        for f in (await _families(lab)).values()
        for s in f.samples
    }


async def test_clients_cannot_create_series(lab: Lab) -> None:
    lab.docker.build(APP, "v1")
    await lab.pull()
    before = await _series(lab)
    for number in range(20):
        lab.docker.build(f"{NAME}/app{number}:dev", "v1")
        await lab.pull(f"app{number}:dev", agent=f"containerd/2.{number}")

    assert await _series(lab) == before


@pytest.mark.parametrize("label", ["image", "client", "node", "cluster"])
async def test_names_from_outside_are_never_labels(lab: Lab, label: str) -> None:
    metrics = Metrics()
    for event in EVENTS:
        metrics.take(event)
    lab.docker.build(APP, "v1")
    await lab.pull()

    used = {
        name
        for family in (await _families(lab)).values()
        for s in family.samples
        for name in s.labels
    }

    assert label not in used
    assert used <= LABELS


async def test_docker_counts_as_connected_before_its_first_event(watching_lab: Lab) -> None:
    await watching_lab.pull()

    assert _value(await _families(watching_lab), "autoregistry_docker_events_connected") == 1


async def test_every_metric_of_the_dashboard_exists(lab: Lab) -> None:
    text = DASHBOARD.read_text()
    used = set(re.findall(r"\b(?:autoregistry|process)_[a-z_]+", text))
    labels = {f"{label}={value}" for label, value in re.findall(r'(\w+)=~?\\"(\w+)\\"', text)}
    samples = [sample for f in (await _families(lab)).values() for sample in f.samples]
    existing = {sample.name for sample in samples}
    values = {f"{label}={value}" for s in samples for label, value in s.labels.items()}

    assert used
    assert used - existing == set()
    assert labels
    assert labels - values == set()


@pytest.mark.parametrize(
    "accept",
    ["text/plain;version=a.b", "application/openmetrics-text; version=abc", "a;b;c=;=", ";,;"],
)
async def test_a_malformed_accept_header_still_gets_metrics(lab: Lab, accept: str) -> None:
    response = await lab.client.get("/_autoregistry/metrics", headers={"Accept": accept})

    assert response.status_code == 200
    assert "autoregistry_docker_up" in response.text
