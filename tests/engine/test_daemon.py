"""The daemon that Docker's own tools would use, and the environment that makes other programs use it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoregistry.engine.daemon import Daemon
from autoregistry.errors import DockerUnreachable

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


@pytest.mark.parametrize(
    "meta",
    [
        pytest.param('{"Name": "bo', id="truncated"),
        pytest.param("null", id="null"),
        pytest.param('{"Name": "box"}', id="without endpoints"),
        pytest.param('{"Name": "box", "Metadata": {}, "Endpoints": {"docker": 1}}', id="number"),
    ],
)
def test_damaged_context_is_an_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta: str
) -> None:
    """docker-py raises a bare Exception, which ended in a traceback."""
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "box"}))
    folder = tmp_path / "contexts" / "meta" / sha256(b"box").hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(meta)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    with pytest.raises(DockerUnreachable, match="Docker's context box") as caught:
        Daemon("test", {}).host  # noqa: B018

    assert caught.value.hint.startswith("docker context ")
