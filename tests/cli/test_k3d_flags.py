"""What the user's own flags and k3d config say is merged, not lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autoregistry.cli.k3d_flags import own_choices
from autoregistry.errors import SettingInvalid

DOCKER_IO = {"mirrors": {"docker.io": {"endpoint": ["http://cache:5000"]}}}
QUAY_IO = {"mirrors": {"quay.io": {"endpoint": ["http://other:5000"]}}}


def _file(folder: Path, name: str, content: object) -> str:
    (folder / name).write_text(yaml.safe_dump(content))
    return str(folder / name)


def test_flags_without_registries_pass_untouched() -> None:
    own = own_choices(["--agents", "2", "-p", "8080:80@loadbalancer"])

    assert (own.registries, own.has_network) == ({}, False)
    assert own.flags == ["--agents", "2", "-p", "8080:80@loadbalancer"]


@pytest.mark.parametrize("joined", [True, False])
def test_a_registries_file_of_the_users_is_taken_in(tmp_path: Path, joined: bool) -> None:
    file = _file(tmp_path, "r.yaml", DOCKER_IO)
    flags = [f"--registry-config={file}"] if joined else ["--registry-config", file]

    own = own_choices([*flags, "--agents", "1"])

    assert (own.registries, own.flags) == (DOCKER_IO, ["--agents", "1"])


@pytest.mark.parametrize("spelling", ["--config={}", "-c{}", "-c={}"])
def test_a_k3d_configs_registries_are_taken_in_and_the_config_stays(
    tmp_path: Path, spelling: str
) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": yaml.safe_dump(DOCKER_IO)}})

    own = own_choices([spelling.format(config)])

    assert (DOCKER_IO, ["--config", config]) == (own.registries, own.flags)


def test_registries_of_the_config_and_of_the_flag_are_both_kept(tmp_path: Path) -> None:
    place = _file(tmp_path, "r.yaml", DOCKER_IO)
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": place}})
    flag = _file(tmp_path, "own.yaml", QUAY_IO)

    own = own_choices(["--registry-config", flag, "--config", config])

    assert {"docker.io", "quay.io"} == set(own.registries["mirrors"])


@pytest.mark.parametrize("chosen", [{"subnet": "10.9.0.0/16"}, {"network": "mine"}])
def test_a_network_chosen_in_the_config_is_respected(
    tmp_path: Path, chosen: dict[str, str]
) -> None:
    own = own_choices(["--config", _file(tmp_path, "k3d.yaml", chosen)])

    assert own.has_network


def test_registries_in_a_config_that_say_nothing_are_nothing(tmp_path: Path) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": "# later\n# or never\n"}})

    assert own_choices(["--config", config]).registries == {}


def test_registries_in_a_config_that_cannot_be_read_are_one_error(tmp_path: Path) -> None:
    config = _file(tmp_path, "k3d.yaml", {"registries": {"config": "mirrors:\n  - {\n"}})

    with pytest.raises(SettingInvalid, match=r"registries\.config in .*k3d\.yaml cannot be read"):
        own_choices(["--config", config])


def test_variables_in_a_k3d_config_mean_what_they_mean_to_k3d(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.delenv("NOBODY", raising=False)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(QUAY_IO))
    inline = "registries:\n  config: |\n    configs:\n      x: {auth: {username: u$NOBODY, password: ${TOKEN}}}\n"
    (tmp_path / "inline.yaml").write_text(inline)
    (tmp_path / "place.yaml").write_text("registries: {config: $PLACE/r.yaml}\n")

    found = own_choices(["--config", str(tmp_path / "inline.yaml")]).registries
    assert found["configs"]["x"]["auth"] == {"username": "u", "password": "s3cret"}
    assert own_choices(["--config", str(tmp_path / "place.yaml")]).registries == QUAY_IO


def test_variables_in_a_registries_file_are_k3ss_own(tmp_path: Path) -> None:
    file = _file(tmp_path, "r.yaml", {"configs": {"x": {"auth": {"password": "$PATH"}}}})

    found = own_choices(["--registry-config", file]).registries
    assert found["configs"]["x"]["auth"]["password"] == "$PATH"


def test_a_k3d_config_from_standard_input_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="standard input"):
        own_choices(["--config", "-"])
