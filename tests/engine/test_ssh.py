"""A daemon behind ssh: the exact command line, as Docker's own CLI has it (docker/cli, connhelper)."""

from __future__ import annotations

import pytest

from autoregistry.engine.ssh import ssh_command


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("ssh://build", "ssh -T -- build", id="an alias of ~/.ssh/config"),
        pytest.param("ssh://me@build", "ssh -T -l me -- build", id="user"),
        pytest.param("ssh://me@build:2222", "ssh -T -l me -p 2222 -- build", id="port"),
    ],
)
def test_ssh_has_the_arguments_of_dockers_own_cli(url: str, expected: str) -> None:
    assert f"{expected} docker system dial-stdio" == " ".join(ssh_command(url))
