"""The lab's iptables: a rule of one daemon waits while another daemon creates the chains again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "dev" / "lab" / "firewall" / "iptables"
_NO_CHAIN = "iptables: No chain/target/match by that name."
_NO_RULE = "iptables: Bad rule (does a matching rule exist in that chain?)."
_DENIED = "iptables: Permission denied"


def _run(tmp_path: Path, verb: str, message: str, *, fails: int) -> tuple[int, str, int]:
    """Run the wrapper over an iptables that fails `fails` times; return its exit code, output and calls."""
    real = tmp_path / "real" / "iptables"
    real.parent.mkdir()
    calls = tmp_path / "calls"
    real.write_text(
        f"#!/bin/sh\necho >> {calls}\n"
        f"[ $(wc -l < {calls}) -gt {fails} ] || {{ echo '{message}' >&2; exit 1; }}\necho done\n"
    )
    wrapper = tmp_path / "iptables"
    wrapper.write_text(_SCRIPT.read_text().replace("real=/usr/sbin/", f"real={real.parent}/"))
    for program in (real, wrapper):
        program.chmod(0o755)
    argv = [str(wrapper), "--wait", "-t", "nat", verb, "DOCKER", "-j", "RETURN"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip(), len(calls.read_text().splitlines())


@pytest.mark.parametrize(
    ("verb", "message", "fails", "outcome"),
    [
        pytest.param("-I", _NO_CHAIN, 0, (0, "done", 1), id="passes"),
        pytest.param("-I", _NO_CHAIN, 2, (0, "done", 3), id="waits for the chain"),
        pytest.param("-A", _DENIED, 2, (1, _DENIED, 1), id="reports another error at once"),
        pytest.param("-C", _NO_RULE, 2, (1, _NO_RULE, 1), id="answers a check at once"),
        pytest.param("-D", _NO_RULE, 2, (0, "", 1), id="ignores a missing rule on delete"),
    ],
)
def test_rule_waits_for_its_chain(
    tmp_path: Path, verb: str, message: str, fails: int, outcome: tuple[int, str, int]
) -> None:
    assert _run(tmp_path, verb, message, fails=fails) == outcome
