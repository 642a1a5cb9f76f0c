"""The parts of a proxy that builds, pages and actions share."""

from __future__ import annotations

from dataclasses import dataclass

from autoregistry.events import Emit
from autoregistry.proxy.backend.client import Backend
from autoregistry.proxy.background import Background
from autoregistry.proxy.pull.docker import AsyncDocker
from autoregistry.proxy.pull.journal import Journal
from autoregistry.proxy.pull.pushes import Pushes
from autoregistry.settings import Settings


@dataclass(frozen=True, slots=True)
class Core:
    """One of each, for as long as the proxy runs."""

    settings: Settings
    docker: AsyncDocker
    backend: Backend
    journal: Journal
    pushes: Pushes
    emit: Emit
    background: Background
