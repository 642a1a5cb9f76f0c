"""The environment that makes other programs use the same Docker daemon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoregistry.engine.daemon import Daemon

# docker-py's own value needs files that exist.
TLS = SimpleNamespace(ca_cert="/c/ca.pem")


@pytest.mark.parametrize(
    ("parameters", "environment"),
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
def test_other_programs_use_the_same_daemon(
    parameters: dict[str, Any], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Daemon, "_parameters", lambda _: parameters)

    assert Daemon("test", {}).environment == environment
