"""Paths of the proxy's own endpoints (docs/http.md)."""

from __future__ import annotations

PREFIX = "/_autoregistry"
PAGE = f"{PREFIX}/"
HEALTH = f"{PREFIX}/health"
STATUS = f"{PREFIX}/status"
EVENTS = f"{PREFIX}/events"
METRICS = f"{PREFIX}/metrics"
PUSH = f"{PREFIX}/push"
REFRESH = f"{PREFIX}/refresh"
