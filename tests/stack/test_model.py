"""The model of the stack, and its two renderings: both describe the same containers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import yaml

from autoregistry.engine.streams import tar_of
from autoregistry.stack.compose import compose_file
from autoregistry.stack.images import ImageSource, image_source
from autoregistry.stack.model import PROXY, SPECIFICATION, stack_for
from autoregistry.stack.options import Host, Options, from_label, to_label

HOST = Host(socket="/run/docker.sock", group=998)


def _specifications(
    options: Options, host: Host = HOST, image: str = "autoregistry:1"
) -> tuple[str, ...]:
    return tuple(body["Labels"][SPECIFICATION] for body in stack_for(options, host, image).values())


@pytest.mark.parametrize(
    ("changed", "backend", "proxy"),
    [
        pytest.param(_specifications(Options()), True, True, id="nothing"),
        pytest.param(_specifications(Options(port=5001)), True, False, id="port"),
        pytest.param(_specifications(Options(expose=True)), True, False, id="expose"),
        pytest.param(
            _specifications(Options(registry_image="registry:3")), False, True, id="registry"
        ),
        pytest.param(
            _specifications(Options(), image="autoregistry:2"), True, False, id="our image"
        ),
        pytest.param(_specifications(Options(), Host(selinux=True)), True, False, id="machine"),
    ],
)
def test_specification_changes_only_with_the_services_own_options(
    changed: tuple[str, str], *, backend: bool, proxy: bool
) -> None:
    before = _specifications(Options())

    assert (backend, proxy) == (before[0] == changed[0], before[1] == changed[1])


@pytest.mark.parametrize(
    "options", [Options(), Options(port=5001, expose=True, docker_socket="/x.sock")]
)
def test_options_are_read_back_from_their_label(options: Options) -> None:
    assert from_label(Options, to_label(options)) == options
    assert from_label(Options, '{"port": 5001, "of_a_later_version": 1}') == Options(port=5001)


def test_create_request_describes_the_proxy() -> None:
    body = stack_for(Options(), HOST, "autoregistry:1")[PROXY]
    host: Any = body["HostConfig"]

    assert " ".join(body["Cmd"]) == (
        "serve --listen 0.0.0.0:5000 --name localhost:5000 --backend http://autoregistry-backend:5000"
        " --state /state"
    )
    assert (body["Hostname"], body["User"]) == ("autoregistry", "65532:65532")
    assert host["PortBindings"] == {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5000"}]}
    assert host["Mounts"] == [
        {"Type": "volume", "Source": "autoregistry-state", "Target": "/state"},
        {"Type": "bind", "Source": "/run/docker.sock", "Target": "/var/run/docker.sock"},
    ]
    assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
    assert host["RestartPolicy"] == {"Name": "unless-stopped"}


def test_containers_have_limits_of_memory_and_processes() -> None:
    """Review 18: a pod could make the proxy take 8 GiB of the machine's memory."""
    hosts: list[Any] = [s["HostConfig"] for s in stack_for(Options(), HOST, "a:1").values()]

    assert [(h["Memory"] >> 20, h["PidsLimit"]) for h in hosts] == [(1024, 4096), (512, 512)]


@pytest.mark.parametrize("options", [Options(), Options(port=5001, expose=True)])
@pytest.mark.parametrize("host", [HOST, Host(selinux=True, user_namespace=True, owner=0)])
def test_compose_file_describes_the_same_containers(options: Options, host: Host) -> None:
    model = stack_for(options, host, "autoregistry:1")
    text = compose_file(options.name, model)
    services = yaml.safe_load(text.replace("$$", "$"))["services"]

    for name, body in model.items():
        wanted, rendered = body["HostConfig"], services[name]
        bindings = wanted["PortBindings"].get("5000/tcp", [])
        assert rendered["image"] == body["Image"]
        assert rendered.get("command") == body["Cmd"]
        assert rendered["hostname"] == rendered["container_name"] == body["Hostname"]
        assert rendered.get("user", "") == body["User"]
        assert [f"{k}={v}" for k, v in rendered["environment"].items()] == body["Env"]
        assert rendered["labels"] == body["Labels"]
        assert rendered.get("ports", []) == [
            ":".join(filter(None, (b["HostIp"], b["HostPort"], "5000"))) for b in bindings
        ]
        assert [(m["type"], m["source"], m["target"]) for m in rendered["volumes"]] == [
            (m["Type"], m["Source"], m["Target"]) for m in wanted["Mounts"]
        ]
        assert rendered["tmpfs"] == list(wanted["Tmpfs"])
        assert rendered["mem_limit"] == wanted["Memory"]
        assert rendered["pids_limit"] == wanted["PidsLimit"]
        assert rendered["restart"] == wanted["RestartPolicy"]["Name"]
        assert rendered["read_only"] is wanted["ReadonlyRootfs"]
        assert rendered["cap_drop"] == wanted["CapDrop"]
        assert rendered["security_opt"] == wanted["SecurityOpt"]
        assert rendered.get("group_add", []) == wanted["GroupAdd"]
        assert rendered.get("userns_mode", "") == wanted["UsernsMode"]
        assert rendered["logging"]["options"] == wanted["LogConfig"]["Config"]
        assert rendered["healthcheck"]["test"] == body["Healthcheck"]["Test"]


@pytest.mark.parametrize(
    ("has_start_interval", "expected"), [(True, (15, 500_000_000)), (False, (5, None))]
)
def test_docker_without_a_start_interval_checks_more_often(
    has_start_interval: bool, expected: tuple[int, int | None]
) -> None:
    """Otherwise `up` would wait for the first check."""
    services = stack_for(Options(), Host(start_interval=has_start_interval), "autoregistry:1")
    checks: list[Any] = [body["Healthcheck"] for body in services.values()]

    for check in checks:
        assert expected == (check["Interval"] // 10**9, check.get("StartInterval"))


def test_image_tag_changes_only_with_the_content() -> None:
    files = {"Dockerfile": b"FROM x", "autoregistry/a.py": b"1"}
    one = ImageSource(files, "python:3")

    assert one.tag == ImageSource(dict(reversed(files.items())), "python:3").tag
    assert one.tag != ImageSource({**files, "autoregistry/a.py": b"2"}, "python:3").tag
    assert one.tag != ImageSource(files, "python:4").tag
    assert tar_of(files).read() == tar_of(dict(reversed(files.items()))).read()


def test_build_context_has_the_package_and_pinned_dependencies() -> None:
    source = image_source("python:3.13-slim")

    assert {"Dockerfile", "requirements.txt", "autoregistry/__main__.py"} <= set(source.files)
    assert "autoregistry/templates/compose.yaml" in source.files
    assert b"docker==" in source.files["requirements.txt"]
    assert b"--hash=sha256:" in source.files["requirements.txt"]
    assert not [path for path in source.files if "__pycache__" in path]


def test_pip_in_the_build_uses_the_index_of_pip_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.corp/simple")
    monkeypatch.setenv("PIP_CERT", "/x")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"):
        monkeypatch.delenv(name, raising=False)

    assert image_source("b:1").arguments() == {
        "BASE_IMAGE": "b:1",
        "PIP_INDEX_URL": "https://index.corp/simple",
    }


def test_password_of_pips_index_is_not_in_the_history_of_the_image() -> None:
    """Review E. `docker history` shows the build arguments that an instruction of the last stage can see."""
    text = image_source("b:1").files["Dockerfile"].decode()
    *_, installing, last = text.split("\nFROM ")

    assert "ARG PIP_INDEX_URL" in installing
    assert "pip install" in installing
    assert "PIP_" not in last
    assert "\nARG " not in last


def test_changed_switches_become_flags_of_serve() -> None:
    chosen = Options(attach_all=True, watch=False, refresh=False)

    assert Options().switches == []
    assert chosen.switches == ["--attach-all", "--no-watch", "--no-refresh"]
    assert from_label(Options, to_label(chosen)) == chosen


@pytest.mark.parametrize(
    ("options", "names"),
    [(Options(), []), (Options(expose=True), ["box", "box.local", "box.test"])],
    ids=["loopback", "exposed"],
)
def test_exposed_proxy_accepts_the_names_of_the_machine(options: Options, names: list[str]) -> None:
    command = list(
        stack_for(options, replace(HOST, names=("Box.test",)), "autoregistry:1")[PROXY]["Cmd"]
    )

    flags = itertools.pairwise(command)
    assert [value for flag, value in flags if flag == "--allow-host"] == names
