"""Merging the user's own k3d flags and config with ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autoregistry.cluster.k3d import split_flags
from autoregistry.errors import SettingInvalid

DOCKER_IO = {"mirrors": {"docker.io": {"endpoint": ["http://cache:5000"]}}}
QUAY_IO = {"mirrors": {"quay.io": {"endpoint": ["http://other:5000"]}}}


def _file(folder: Path, name: str, content: object) -> str:
    (folder / name).write_text(yaml.safe_dump(content))
    return str(folder / name)


SUBNET = ["--subnet", "auto"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param(
            ["--agents", "2", "-p", "8080:80@loadbalancer"],
            [*SUBNET, "--agents", "2", "-p", "8080:80@loadbalancer"],
            id="fixed addresses",
        ),
        pytest.param(["--network", "mine"], ["--network", "mine"], id="the user's own network"),
        pytest.param(
            ["--subnet=10.9.0.0/16"], ["--subnet=10.9.0.0/16"], id="the user's own subnet"
        ),
    ],
)
def test_flags_without_registries_are_kept(flags: list[str], expected: list[str]) -> None:
    assert split_flags(flags) == ({}, expected)


@pytest.mark.parametrize("joined", [True, False])
def test_users_registries_file_is_merged(tmp_path: Path, joined: bool) -> None:
    file = _file(tmp_path, "r.yaml", DOCKER_IO)
    flags = [f"--registry-config={file}"] if joined else ["--registry-config", file]

    assert split_flags([*flags, "--agents", "1"]) == (DOCKER_IO, [*SUBNET, "--agents", "1"])


@pytest.mark.parametrize("spelling", ["--config={}", "-c{}", "-c={}"])
def test_registries_of_a_k3d_config_are_merged_and_the_config_is_kept(
    tmp_path: Path, spelling: str
) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": yaml.safe_dump(DOCKER_IO)}})

    registries, flags = split_flags([spelling.format(config)])

    assert (DOCKER_IO, [*SUBNET, "--config", config]) == (registries, flags)


def test_registries_of_the_config_and_of_the_flag_are_both_kept(tmp_path: Path) -> None:
    place = _file(tmp_path, "r.yaml", DOCKER_IO)
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": place}})
    flag = _file(tmp_path, "own.yaml", QUAY_IO)

    registries, _ = split_flags(["--registry-config", flag, "--config", config])

    assert {"docker.io", "quay.io"} == set(registries["mirrors"])


@pytest.mark.parametrize("chosen", [{"subnet": "10.9.0.0/16"}, {"network": "mine"}])
def test_network_of_the_config_is_kept(tmp_path: Path, chosen: dict[str, str]) -> None:
    config = _file(tmp_path, "k3d.yaml", chosen)

    assert split_flags(["--config", config]) == ({}, ["--config", config])


def test_empty_registries_of_a_config_are_ignored(tmp_path: Path) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": "# later\n# or never\n"}})

    assert split_flags(["--config", config])[0] == {}


def test_invalid_registries_of_a_config_are_refused(tmp_path: Path) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": "mirrors:\n  - {\n"}})

    with pytest.raises(SettingInvalid, match=r"registries\.config in .*k3d\.yaml cannot be read"):
        split_flags(["--config", config])


def test_variables_in_a_k3d_config_are_expanded_as_by_k3d(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.delenv("UNSET", raising=False)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(QUAY_IO))
    inline = "registries:\n  config: |\n    configs:\n      x: {auth: {username: u$UNSET, password: ${TOKEN}}}\n"
    (tmp_path / "inline.yaml").write_text(inline)
    (tmp_path / "place.yaml").write_text("registries: {config: $PLACE/r.yaml}\n")

    found = split_flags(["--config", str(tmp_path / "inline.yaml")])[0]
    assert found["configs"]["x"]["auth"] == {"username": "u", "password": "s3cret"}
    assert split_flags(["--config", str(tmp_path / "place.yaml")])[0] == QUAY_IO


def test_variables_in_a_registries_file_are_kept(tmp_path: Path) -> None:
    file = _file(tmp_path, "r.yaml", {"configs": {"x": {"auth": {"password": "$PATH"}}}})

    found = split_flags(["--registry-config", file])[0]
    assert found["configs"]["x"]["auth"]["password"] == "$PATH"


def test_k3d_config_from_standard_input_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="standard input"):
        split_flags(["--config", "-"])


def test_flag_without_its_value_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="--config"):
        split_flags(["--agents", "1", "--config"])
