"""The Tiltfile read by Tilt itself, if Tilt is installed (test_tiltfile.py does not need it)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiltfile import BUTTONS, EXTENSION, TILTFILE

TILT = shutil.which("tilt")
pytestmark = pytest.mark.skipif(TILT is None, reason="needs tilt")

EXAMPLE = TILTFILE.parent / "examples" / "k3d"
BESIDE = f"load('{TILTFILE}', 'autoregistry', 'autoregistry_build')\n"
USE = f"""
autoregistry()
autoregistry_build('localhost:5000/hello', '{EXAMPLE}')
k8s_yaml('{EXAMPLE}/deployment.yaml')
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: k3d-dev
contexts: [{name: k3d-dev, context: {cluster: k3d-dev, user: me}}]
clusters: [{name: k3d-dev, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: me, user: {}}]
"""


class Machine:
    """A machine with Tilt, a k3d context, and a kubectl that prints this ConfigMap."""

    def __init__(self, folder: Path, config_map: str = "") -> None:
        (folder / "bin").mkdir()
        for name, text in {"autoregistry": "exit 0", "kubectl": f"echo '{config_map}'"}.items():
            program = folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)
        (folder / "kubeconfig").write_text(KUBECONFIG)
        self._environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "DO_NOT_TRACK": "1",
        }

    def result(self, tiltfile: Path) -> tuple[dict[str, Any], str]:
        """Return Tilt's result for a Tiltfile, empty if it fails, and its errors."""
        argv = [str(TILT), "alpha", "tiltfile-result", "--file", str(tiltfile)]
        done = subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, check=False, timeout=60
        )
        return json.loads(done.stdout) if done.returncode == 0 else {}, done.stderr

    def reads(self, tiltfile: Path) -> tuple[dict[str, Any], str]:
        """Return Tilt's manifests by name, and its errors."""
        result, errors = self.result(tiltfile)
        return {manifest["Name"]: manifest for manifest in result.get("Manifests", [])}, errors


@pytest.mark.parametrize("load", [BESIDE, EXTENSION], ids=["beside ours", "as an extension"])
def test_tilt_loads_it_in_both_ways(load: str, tmp_path: Path) -> None:
    tiltfile = tmp_path / "Tiltfile"
    tiltfile.write_text(load + USE)

    result, errors = Machine(tmp_path).reads(tiltfile)

    assert result, errors
    assert "autoregistry up --port 5000" in json.dumps(result["autoregistry"])
    # Tilt's value for `disable_push`: the build has also updated the registry.
    built = result["hello"]["ImageTargets"][0]["BuildDetails"]
    assert built["outputMode"] == "local-docker-and-remote"


def test_tilt_runs_it_as_the_demo(tmp_path: Path) -> None:
    result, errors = Machine(tmp_path).reads(TILTFILE)

    assert {"autoregistry", "hello"} <= set(result), errors


def test_each_button_starts_its_command(tmp_path: Path) -> None:
    result, errors = Machine(tmp_path).result(TILTFILE)

    buttons, cmds = (
        result["ObjectSet"][f"tilt.dev/v1alpha1, Resource={kind}"] for kind in ("uibuttons", "cmds")
    )
    assert {f"autoregistry-{name}" for name in BUTTONS} == set(buttons), errors
    for name, button in buttons.items():
        assert button["spec"]["location"]["componentID"] == "autoregistry"
        assert cmds[name]["spec"]["startOn"]["uiButtons"] == [name]


def test_tilt_fails_if_the_cluster_names_another_registry(tmp_path: Path) -> None:
    result, errors = Machine(tmp_path, "host: localhost:5050").reads(TILTFILE)

    assert result == {}
    assert "Tilt sends images to localhost:5050" in errors
