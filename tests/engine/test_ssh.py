"""A daemon behind ssh: the exact words, as Docker's own CLI has them (docker/cli, connhelper)."""

from __future__ import annotations

import pytest

from autoregistry.engine.ssh import SshAdapter, ssh_command


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("ssh://build", "ssh -T -- build", id="an alias of ~/.ssh/config"),
        pytest.param("ssh://me@build", "ssh -T -l me -- build", id="user"),
        pytest.param("ssh://me@build:2222", "ssh -T -l me -p 2222 -- build", id="port"),
    ],
)
def test_ssh_is_called_as_dockers_own_cli_calls_it(url: str, expected: str) -> None:
    assert f"{expected} docker system dial-stdio" == " ".join(ssh_command(url))


def test_what_is_asked_shares_its_connections() -> None:
    """Each is a login; docker-py has a pool of its own for each URL."""
    adapter = SshAdapter("ssh://build", max_pool_size=2)

    assert adapter.get_connection("http+docker://a") is adapter.get_connection("http+docker://b")
