"""The Tiltfile, evaluated by a real Starlark that records the calls of Tilt's built-ins."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import starlark
import yaml

from tests.helpers.tiltfile import BUTTONS, EXTENSION, TILTFILE

BUILT_INS = (
    "default_registry", "local_resource", "custom_build", "k8s_yaml", "k8s_resource",
    "probe", "http_get_action", "link", "extension_repo", "extension", "ui_button", "cmd",
)  # fmt: skip
LOAD = "load('./Tiltfile', 'autoregistry', 'autoregistry_build')\n"


def returned(name: str, /, *words: object, **named: object) -> str:
    """Return what a built-in returns for another one to use."""
    return f"{name}({words}, {named})"


class Tilt:
    """Tilt's API for a Tiltfile, with a record of the calls."""

    def __init__(
        self,
        context: str = "k3d-dev",
        *,
        is_installed: bool = True,
        config_map: str = "",
        status: str = "",
    ) -> None:
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []
        self.ran: list[str] = []
        self._context = context
        self._is_installed = is_installed
        self._config_map = config_map
        self._status = status
        self._dialect = starlark.Dialect.extended()
        self._dialect.enable_top_level_stmt = True
        self._globals = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])

    def run(self, text: str, main: Path) -> None:
        """Evaluate a Tiltfile as the main one. The Tiltfile that it loads is this repository's."""

        def load(name: str) -> Any:
            loaded = TILTFILE if name == "./Tiltfile" else self._extension(name)
            return self._evaluate(loaded.read_text(), loaded, main).freeze()

        self._evaluate(text, main, main, starlark.FileLoader(load))

    def _extension(self, name: str) -> Path:
        """Return the path of a registered extension's Tiltfile."""
        repositories = {named["name"]: named["url"] for _, named in self.named("extension_repo")}
        extension = {f"ext://{named['name']}": named for _, named in self.named("extension")}[name]
        folder = Path(repositories[extension["repo_name"]].removeprefix("file://"))
        return Path(folder, str(extension["repo_path"]), "Tiltfile")

    def _evaluate(self, text: str, file: Path, main: Path, loader: Any = None) -> Any:
        module = starlark.Module()
        for name in BUILT_INS:
            module.add_callable(name, self._recorder(name))
        module.add_callable("local", self._local)
        module.add_callable("decode_yaml", yaml.safe_load)
        module.add_callable("decode_json", json.loads)
        module.add_callable("k8s_context", lambda: self._context)
        module.add_callable("_quote", shlex.quote)
        prelude = (
            f"config = struct(main_path={str(main)!r})\nshlex = struct(quote=_quote)\n"
            "v1alpha1 = struct(extension_repo=extension_repo, extension=extension, ui_button=ui_button, cmd=cmd)\n"
            f"__file__ = {str(file)!r}\n"
        )
        parsed = starlark.parse(str(file), prelude + text, self._dialect)
        starlark.eval(module, parsed, self._globals, *([loader] if loader else []))
        return module

    def _local(self, command: str, **_: Any) -> str:
        self.ran.append(command)
        if command.startswith("kubectl --context k3d-"):
            assert "get configmap local-registry-hosting" in command
            return self._config_map
        if command.startswith("autoregistry status --json"):
            return self._status
        return "autoregistry" if self._is_installed else ""

    def _recorder(self, name: str) -> Any:
        def record(*words: Any, **named: Any) -> str:
            self.calls.append((name, list(words), named))
            return returned(name, *words, **named)

        return record

    def named(self, name: str) -> list[tuple[list[Any], dict[str, Any]]]:
        return [(words, named) for called, words, named in self.calls if called == name]


USER = Path("/somewhere/Tiltfile")


def _resources(tilt: Tilt) -> dict[str, dict[str, Any]]:
    return {words[0]: named for words, named in tilt.named("local_resource")}


def test_loading_starts_nothing() -> None:
    tilt = Tilt()

    tilt.run(LOAD, USER)

    assert tilt.calls == []


@pytest.mark.parametrize("load", [LOAD, EXTENSION], ids=["beside ours", "as an extension"])
def test_both_ways_of_loading_have_the_same_result(load: str) -> None:
    tilt = Tilt()

    tilt.run(load + "autoregistry()\nautoregistry_build('localhost:5000/api', '.')", USER)

    assert "autoregistry" in _resources(tilt)
    assert [words[0] for words, _ in tilt.named("custom_build")] == ["localhost:5000/api"]
    assert tilt.named("k8s_yaml") == []


def test_main_tiltfile_starts_the_demo() -> None:
    tilt = Tilt()

    tilt.run(TILTFILE.read_text(), TILTFILE)

    assert tilt.named("k8s_yaml") == [(["./examples/k3d/deployment.yaml"], {})]
    assert tilt.named("custom_build")[0][0][0] == "localhost:5000/hello"


def test_autoregistry_brings_the_registry_up_and_attaches_the_current_cluster() -> None:
    tilt = Tilt()

    tilt.run(LOAD + "autoregistry(port=5001)", USER)

    main = _resources(tilt)["autoregistry"]
    assert main["cmd"] == "autoregistry up --port 5001 && autoregistry cluster attach dev"
    assert main["serve_cmd"] == "autoregistry watch"
    assert main["labels"] == ["autoregistry"]
    health = returned("http_get_action", port=5001, path="/_autoregistry/health")
    assert main["readiness_probe"] == returned("probe", period_secs=5, http_get=health)
    assert main["links"] == [
        returned("link", "http://localhost:5001/_autoregistry/", "image status")
    ]
    assert tilt.named("default_registry") == [(["localhost:5001"], {})]


def test_config_map_with_our_registry_is_accepted() -> None:
    tilt = Tilt(config_map="host: localhost:5001\n")

    tilt.run(LOAD + "autoregistry(port=5001)", USER)

    assert "autoregistry" in _resources(tilt)


def test_cluster_and_labels_can_be_chosen() -> None:
    tilt = Tilt("k3d-other")

    tilt.run(LOAD + "autoregistry(cluster='other', labels=['infra'])", USER)

    (main,) = _resources(tilt).values()
    assert "cluster attach other" in main["cmd"]
    assert main["labels"] == ["infra"]


def test_buttons_are_on_the_resource_and_start_their_commands() -> None:
    tilt = Tilt()

    tilt.run(LOAD + "autoregistry()", USER)

    buttons = [named for _, named in tilt.named("ui_button")]
    assert [(b["name"], b["text"]) for b in buttons] == [
        ("autoregistry-push", "Push now"),
        ("autoregistry-refresh", "Refresh the nodes"),
        ("autoregistry-restart", "Restart workloads with an old image"),
    ]
    place = {"component_type": "Resource", "component_id": "autoregistry"}
    assert [button["location"] for button in buttons] == [place] * 3
    cmds = [named for _, named in tilt.named("cmd")]
    assert [cmd["start_on"] for cmd in cmds] == [{"ui_buttons": [b["name"]]} for b in buttons]
    logs = {named["annotations"]["tilt.dev/resource"] for named in [*buttons, *cmds]}
    assert logs == {"autoregistry"}


def _pressed(name: str, images: list[dict[str, Any]] | None, folder: Path) -> tuple[int, list[str]]:
    """Return the exit code of a button's command, and its calls of autoregistry. None: images cannot be listed."""
    tilt = Tilt()
    tilt.run(LOAD + "autoregistry()", USER)
    (argv,) = [c["args"] for _, c in tilt.named("cmd") if c["name"] == f"autoregistry-{name}"]
    listed, called, program = folder / "images", folder / "called", folder / "autoregistry"
    if images is not None:
        listed.write_text(json.dumps({"name": "localhost:5000", "images": images}, indent=2))
    called.touch()
    program.write_text(
        f'#!/bin/sh\n[ "$*" = "images --json" ] && exec cat {listed}\necho "$*" >>{called}\n'
    )
    program.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(argv, env={"PATH": path}, capture_output=True, check=False, timeout=30)
    return done.returncode, called.read_text().splitlines()


API, WEB = ({"image": f"shop/{name}:dev", "docker": "sha256:1"} for name in ("api", "web"))
NOT_IN_DOCKER = {"image": "pushed/by-hand:1", "docker": None}


def test_each_button_has_its_command() -> None:
    tilt = Tilt()

    tilt.run(LOAD + "autoregistry()", USER)

    ran = {c["name"].removeprefix("autoregistry-"): c["args"] for _, c in tilt.named("cmd")}
    assert ran == {name: ["sh", "-c", line] for name, line in BUTTONS.items()}


def test_push_button_passes_the_pattern(tmp_path: Path) -> None:
    assert _pressed("push", [API], tmp_path) == (0, ["push *"])


@pytest.mark.parametrize("name", ["refresh", "restart"])
@pytest.mark.parametrize(
    ("images", "words"),
    [
        pytest.param([], [], id="none"),
        pytest.param([NOT_IN_DOCKER], [], id="none in Docker"),
        pytest.param([API], ["shop/api:dev"], id="one"),
        pytest.param([API, NOT_IN_DOCKER, WEB], ["shop/api:dev shop/web:dev"], id="several"),
    ],
)
def test_button_applies_to_every_image_that_docker_has(
    name: str, images: list[dict[str, Any]], words: list[str], tmp_path: Path
) -> None:
    assert _pressed(name, images, tmp_path) == (
        0,
        [f"{name} --cluster dev {word}" for word in words],
    )


@pytest.mark.parametrize("name", ["refresh", "restart"])
def test_button_fails_if_the_images_cannot_be_listed(name: str, tmp_path: Path) -> None:
    code, called = _pressed(name, None, tmp_path)

    assert (code != 0, called) == (True, [])


def test_build_runs_docker_build_without_a_push() -> None:
    tilt = Tilt()

    tilt.run(
        LOAD + "autoregistry_build('localhost:5000/api', './my api', dockerfile='Docker file',"
        " build_args={'A': 'x y'}, deps=['src'], live_update=['step'])",
        USER,
    )

    assert tilt.named("custom_build") == [
        (
            [
                "localhost:5000/api",
                "docker build -t $EXPECTED_REF -f 'Docker file' --build-arg 'A=x y' './my api'",
            ],
            {"deps": ["src"], "disable_push": True, "live_update": ["step"]},
        )
    ]


def test_dockerfile_in_another_folder_is_also_watched() -> None:
    tilt = Tilt()

    tilt.run(
        LOAD + "autoregistry_build('localhost:5000/a', 'src', dockerfile='d/Dockerfile')", USER
    )

    assert tilt.named("custom_build")[0][1]["deps"] == ["src", "d/Dockerfile"]


@pytest.mark.parametrize(
    "status",
    ['{"name": "localhost:5001", "proxy": null}', '{"name": "localhost:5000", "proxy": {}}', ""],
    ids=["nothing runs", "the same", "no answer"],
)
def test_registry_at_no_other_port_is_started(status: str) -> None:
    tilt = Tilt(status=status)

    tilt.run(LOAD + "autoregistry()", USER)

    assert "autoregistry" in _resources(tilt)


@pytest.mark.parametrize(
    ("tilt", "message"),
    [
        pytest.param(
            Tilt(is_installed=False), "run `pipx install .` in a checkout", id="not installed"
        ),
        pytest.param(
            Tilt("gke_production"), "context gke_production is not a k3d cluster", id="not local"
        ),
        pytest.param(
            Tilt(config_map='host: "localhost:5050"\nhelp: "https://k3d.io"\n'),
            "Tilt sends images to localhost:5050.*autoregistry cluster attach dev",
            id="another registry",
        ),
        pytest.param(
            Tilt(config_map="host: localhost:5001\nhelp: http://localhost:5001/_autoregistry/\n"),
            r"not to localhost:5000: autoregistry\(port=5001\), or autoregistry up --port 5000",
            id="another port in the cluster",
        ),
        pytest.param(
            Tilt(status='{"name": "localhost:5001", "proxy": {"version": "1"}}'),
            r"the registry runs at localhost:5001: use autoregistry\(port=5001\), or autoregistry up --port 5000",
            id="another port that runs",
        ),
    ],
)
def test_tiltfile_fails_early_with_the_command_to_run(tilt: Tilt, message: str) -> None:
    with pytest.raises(starlark.StarlarkError, match=message):
        tilt.run(LOAD + "autoregistry()", USER)

    assert tilt.named("local_resource") == []


@pytest.mark.parametrize(
    ("context", "message"),
    [
        pytest.param(
            "gke_production",
            "context gke_production is not a k3d cluster: autoregistry cluster create dev, or kubectl",
            id="not local",
        ),
        pytest.param(
            "k3d-other",
            "context k3d-other does not belong to cluster dev: kubectl config use-context k3d-dev, then",
            id="another cluster",
        ),
    ],
)
def test_chosen_cluster_must_be_the_one_of_the_context(context: str, message: str) -> None:
    """Neither kubectl nor Tilt is called for another context."""
    tilt = Tilt(context)

    with pytest.raises(starlark.StarlarkError, match=message):
        tilt.run(LOAD + "autoregistry(cluster='dev')", USER)

    assert tilt.calls == []
    assert [command for command in tilt.ran if "kubectl" in command] == []
