"""The one Docker daemon that is talked to, as it is named to other programs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoregistry.engine.daemon import Daemon

# As docker-py describes a context's certificates, which have to exist there.
TLS = SimpleNamespace(ca_cert="/c/ca.pem")


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({}, {"DOCKER_HOST": "unix:///var/run/docker.sock"}),
        ({"base_url": "ssh://box"}, {"DOCKER_HOST": "ssh://box"}),
        (
            {"base_url": "tcp://box:2376", "tls": TLS},
            {"DOCKER_HOST": "tcp://box:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c"},
        ),
    ],
    ids=["default", "ssh", "a context with certificates"],
)
def test_other_programs_are_told_of_the_same_daemon(
    chosen: dict[str, Any], told: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Daemon, "_parameters", lambda _: chosen)

    assert Daemon("test", {}).environment == told
