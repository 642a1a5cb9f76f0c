"""The road to the registry, as flags choose it: by the containers of `up`, or by the host's address at any port."""

from __future__ import annotations

import pytest
import yaml

from tests.cli.conftest import Type


def test_generate_for_a_serve_at_another_port(typed: Type) -> None:
    written = typed("generate", "registries", "--via", "host", "--port", "5007").stdout

    assert yaml.safe_load(written)["mirrors"] == {
        name: {"endpoint": ["http://host.k3d.internal:5007"]}
        for name in ("localhost:5007", "127.0.0.1:5007")
    }


@pytest.mark.parametrize(
    "words",
    [("generate", "hosts"), ("generate", "configmap"), ("generate", "registries")],
    ids=" ".join,
)
def test_the_containers_port_is_for_up_to_choose(typed: Type, words: tuple[str, ...]) -> None:
    refused = typed(*words, "--port", "5007")

    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --port is for --via host\nhint: autoregistry up --port 5007\n",
    )
