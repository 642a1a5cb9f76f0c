"""Merging the user's own k3d flags and config with ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autoregistry.cli.k3d_flags import user_choices
from autoregistry.errors import SettingInvalid

DOCKER_IO = {"mirrors": {"docker.io": {"endpoint": ["http://cache:5000"]}}}
QUAY_IO = {"mirrors": {"quay.io": {"endpoint": ["http://other:5000"]}}}


def _file(folder: Path, name: str, content: object) -> str:
    (folder / name).write_text(yaml.safe_dump(content))
    return str(folder / name)


def test_flags_without_registries_are_unchanged() -> None:
    choices = user_choices(["--agents", "2", "-p", "8080:80@loadbalancer"])

    assert (choices.registries, choices.has_network) == ({}, False)
    assert choices.flags == ["--agents", "2", "-p", "8080:80@loadbalancer"]


@pytest.mark.parametrize("joined", [True, False])
def test_users_registries_file_is_merged(tmp_path: Path, joined: bool) -> None:
    file = _file(tmp_path, "r.yaml", DOCKER_IO)
    flags = [f"--registry-config={file}"] if joined else ["--registry-config", file]

    choices = user_choices([*flags, "--agents", "1"])

    assert (choices.registries, choices.flags) == (DOCKER_IO, ["--agents", "1"])


@pytest.mark.parametrize("spelling", ["--config={}", "-c{}", "-c={}"])
def test_registries_of_a_k3d_config_are_merged_and_the_config_is_kept(
    tmp_path: Path, spelling: str
) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": yaml.safe_dump(DOCKER_IO)}})

    choices = user_choices([spelling.format(config)])

    assert (DOCKER_IO, ["--config", config]) == (choices.registries, choices.flags)


def test_registries_of_the_config_and_of_the_flag_are_both_kept(tmp_path: Path) -> None:
    place = _file(tmp_path, "r.yaml", DOCKER_IO)
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": place}})
    flag = _file(tmp_path, "own.yaml", QUAY_IO)

    choices = user_choices(["--registry-config", flag, "--config", config])

    assert {"docker.io", "quay.io"} == set(choices.registries["mirrors"])


@pytest.mark.parametrize("chosen", [{"subnet": "10.9.0.0/16"}, {"network": "mine"}])
def test_network_of_the_config_is_kept(tmp_path: Path, chosen: dict[str, str]) -> None:
    choices = user_choices(["--config", _file(tmp_path, "k3d.yaml", chosen)])

    assert choices.has_network


def test_empty_registries_of_a_config_are_ignored(tmp_path: Path) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": "# later\n# or never\n"}})

    assert user_choices(["--config", config]).registries == {}


def test_invalid_registries_of_a_config_are_refused(tmp_path: Path) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": "mirrors:\n  - {\n"}})

    with pytest.raises(SettingInvalid, match=r"registries\.config in .*k3d\.yaml cannot be read"):
        user_choices(["--config", config])


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

    found = user_choices(["--config", str(tmp_path / "inline.yaml")]).registries
    assert found["configs"]["x"]["auth"] == {"username": "u", "password": "s3cret"}
    assert user_choices(["--config", str(tmp_path / "place.yaml")]).registries == QUAY_IO


def test_variables_in_a_registries_file_are_kept(tmp_path: Path) -> None:
    file = _file(tmp_path, "r.yaml", {"configs": {"x": {"auth": {"password": "$PATH"}}}})

    found = user_choices(["--registry-config", file]).registries
    assert found["configs"]["x"]["auth"]["password"] == "$PATH"


def test_k3d_config_from_standard_input_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="standard input"):
        user_choices(["--config", "-"])
