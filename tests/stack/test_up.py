"""`up` and `down` over a Docker Engine in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoregistry.errors import AutoregistryError, ImageUnavailable, PortTaken, StackRefused
from autoregistry.stack.docker_socket import candidates
from autoregistry.stack.down import take_down
from autoregistry.stack.images import image_source
from autoregistry.stack.steps import Step, StepDone
from autoregistry.stack.up import Up, UpResult
from tests.fakes.engine import FakeEngine

IMAGE = image_source("python:3.13-slim").tag


def up(engine: FakeEngine, **choices: object) -> UpResult:
    return Up(engine.daemon, lambda _: None, is_local=False).run(choices)


def identities(engine: FakeEngine) -> dict[str, str]:
    return {name: c["Id"] for name, c in engine.containers.items()}


def test_up_creates_and_starts_everything(engine: FakeEngine) -> None:
    steps: list[Step] = []
    result = Up(engine.daemon, steps.append, is_local=False).run({})

    assert result.has_changed
    assert {"autoregistry", "autoregistry-backend"} == set(engine.containers)
    assert {"autoregistry"} == set(engine.networks)
    assert {"autoregistry-data", "autoregistry-state"} == set(engine.volumes)
    assert [(s.name, s.result) for s in steps if isinstance(s, StepDone)] == [
        ("Docker", f"28.5.2, containerd store, at {engine.host}"),
        (f"image {IMAGE}", "built"),
        ("Docker's socket", "/var/run/docker.sock, used as user 65532, group 998"),
        ("network autoregistry", "created"),
        ("volume autoregistry-data", "created"),
        ("volume autoregistry-state", "created"),
        ("autoregistry-backend", "created, healthy"),
        ("autoregistry", "created, healthy"),
    ]


def test_second_up_changes_nothing(engine: FakeEngine) -> None:
    up(engine)
    engine.asked.clear()

    assert not up(engine).has_changed
    assert [asked for asked in engine.asked if "exec" not in asked] == []


@pytest.mark.parametrize(
    ("choices", "replaced"),
    [
        pytest.param({"port": 5001}, {"autoregistry"}, id="port"),
        pytest.param({"expose": True}, {"autoregistry"}, id="expose"),
        pytest.param({"base_image": "other:1"}, {"autoregistry"}, id="base image"),
        pytest.param({"registry_image": "other:1"}, {"autoregistry-backend"}, id="registry image"),
        pytest.param({}, set(), id="nothing"),
    ],
)
def test_option_replaces_only_its_container_and_is_remembered(
    engine: FakeEngine, choices: dict[str, Any], replaced: set[str]
) -> None:
    up(engine)
    before = identities(engine)

    up(engine, **choices)
    after = identities(engine)

    assert replaced == {name for name in after if after[name] != before[name]}
    assert not up(engine).has_changed
    assert "DELETE /volumes/autoregistry-data" not in engine.asked


def test_newly_pulled_registry_image_replaces_the_backend(engine: FakeEngine) -> None:
    up(engine)
    before = identities(engine)
    engine.images["registry:2"] = "sha256:newer"

    up(engine)

    assert before["autoregistry-backend"] != identities(engine)["autoregistry-backend"]
    assert before["autoregistry"] == identities(engine)["autoregistry"]


def test_image_of_an_older_package_is_removed(engine: FakeEngine) -> None:
    engine.images["autoregistry:0.0.1-abc"] = "sha256:old"
    up(engine)

    assert {"registry:2", "python:3.13-slim", IMAGE} == set(engine.images)


def test_replacement_joins_the_networks_before_the_old_container_is_removed(
    engine: FakeEngine,
) -> None:
    up(engine)
    engine.networks["k3d-dev"] = {"Name": "k3d-dev"}
    networks = engine.containers["autoregistry"]["NetworkSettings"]["Networks"]
    networks["k3d-dev"] = {"IPAMConfig": {"IPv4Address": "10.9.0.7"}, "Aliases": ["id"]}
    old = engine.containers["autoregistry"]["Id"]
    engine.asked.clear()

    up(engine, port=5001)
    joined = engine.containers["autoregistry"]["NetworkSettings"]["Networks"]["k3d-dev"]
    changes = [asked for asked in engine.asked if "exec" not in asked]

    assert joined["IPAMConfig"] == {"IPv4Address": "10.9.0.7"}
    assert changes == [
        "POST /containers/create",
        "POST /networks/k3d-dev/connect",
        f"POST /containers/{old}/stop",
        f"DELETE /containers/{old}",
        "POST /containers/autoregistry-new/rename",
        "POST /containers/autoregistry/start",
    ]


@pytest.mark.parametrize("has_old", [True, False])
def test_interrupted_replacement_is_finished_or_removed(
    engine: FakeEngine, *, has_old: bool
) -> None:
    up(engine)
    proxy = engine.containers["autoregistry"]
    engine.containers["autoregistry-new"] = {**proxy, "Id": "left", "Name": "/autoregistry-new"}
    if not has_old:
        del engine.containers["autoregistry"]

    up(engine)

    assert {"autoregistry", "autoregistry-backend"} == set(engine.containers)
    assert identities(engine)["autoregistry"] == (proxy["Id"] if has_old else "left")


@pytest.mark.parametrize("state", ["exited", "created"])
def test_stopped_containers_are_started(engine: FakeEngine, state: str) -> None:
    up(engine)
    before = identities(engine)
    for container in engine.containers.values():
        container["State"] = {"Status": state}

    assert up(engine).has_changed
    assert before == identities(engine)


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        pytest.param([], ("no-new-privileges:true", ""), id="plain"),
        pytest.param(
            ["name=seccomp,profile=builtin", "name=selinux"],
            ("no-new-privileges:true label=disable", ""),
            id="SELinux, which would deny the socket",
        ),
        pytest.param(["name=userns"], ("no-new-privileges:true", "host"), id="remapped users"),
    ],
)
def test_proxy_gets_the_security_options_that_the_machine_requires(
    engine: FakeEngine, security: list[str], expected: tuple[str, str]
) -> None:
    engine.security = security
    up(engine)
    host = engine.created["autoregistry"]["HostConfig"]

    assert expected == (" ".join(host["SecurityOpt"]), host["UsernsMode"])
    assert (
        "label=disable" in engine.created["autoregistry-probe"]["HostConfig"]["SecurityOpt"]
    ) is ("label=disable" in expected[0])


@pytest.mark.parametrize(
    ("as_user", "user"), [pytest.param(True, "65532:65532"), pytest.param(False, "0:0")]
)
def test_proxy_runs_as_root_only_if_the_sockets_group_may_not_use_it(
    engine: FakeEngine, *, as_user: bool, user: str
) -> None:
    engine.probed["as_user"] = as_user
    up(engine)
    body = engine.created["autoregistry"]

    assert (body["User"], body["HostConfig"]["GroupAdd"]) == (user, ["998"])
    assert body["HostConfig"]["CapDrop"] == ["ALL"]


def test_proxy_needs_no_root_for_a_rootless_daemons_socket(engine: FakeEngine) -> None:
    """In the container, the daemon's user is root, and the group of the socket is enough."""
    engine.security = ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
    engine.probed |= {"group": 0, "owner": 0}
    up(engine)
    body = engine.created["autoregistry"]

    assert (body["User"], body["HostConfig"]["GroupAdd"]) == ("65532:65532", ["0"])
    assert (body["HostConfig"]["SecurityOpt"], body["HostConfig"]["UsernsMode"]) == (
        ["no-new-privileges:true"],
        "",
    )


def test_socket_that_now_belongs_to_another_daemon_is_detected_again(engine: FakeEngine) -> None:
    up(engine)
    engine.probed["id"] = "ANOTHER"

    with pytest.raises(StackRefused, match="another Docker daemon") as caught:
        up(engine)
    assert caught.value.hint.startswith("autoregistry up --docker-socket PATH")


def test_proxy_that_has_lost_dockers_socket_is_restarted(engine: FakeEngine) -> None:
    """Review 9: the socket was created anew, and the proxy has the old inode. `up` said `unchanged, healthy`."""
    up(engine)
    before = identities(engine)
    engine.has_dead_socket = True
    steps: list[Step] = []

    assert Up(engine.daemon, steps.append, is_local=False).run({}).has_changed

    assert StepDone("autoregistry", "restarted, healthy") in steps
    assert before == identities(engine)
    assert not up(engine).has_changed


def test_credential_helper_and_proxies_are_not_used(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulls are anonymous. A build gets the proxies of Docker's configuration, and a container gets none."""
    proxies = {"default": {"httpProxy": "http://proxy.corp:3128", "noProxy": "corp"}}
    config = {"credsStore": "is-not-there", "proxies": proxies}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    del engine.images["registry:2"]

    up(engine)
    arguments = json.loads(engine.parameters["build"]["buildargs"])
    environment = engine.created["autoregistry"]["Env"]

    assert engine.headers["/images/create"]["X-Registry-Auth"] == "e30="
    assert arguments["HTTP_PROXY"] == arguments["http_proxy"] == "http://proxy.corp:3128"
    assert {"HTTP_PROXY=", "https_proxy=", "NO_PROXY="} <= set(environment)


def _taken_name(engine: FakeEngine) -> None:
    engine.containers["autoregistry"] = {
        "Id": "x",
        "Name": "/autoregistry",
        "Image": "sha256:x",
        "HostConfig": {},
        "Config": {"Image": "nginx", "Labels": {}},
        "State": {"Status": "running"},
        "NetworkSettings": {"Networks": {}},
    }


def _taken_network(engine: FakeEngine) -> None:
    engine.networks["autoregistry"] = {"Name": "autoregistry"}


def _taken_volume(engine: FakeEngine) -> None:
    engine.volumes["autoregistry-data"] = {"Name": "autoregistry-data"}


def _unpullable(cause: str) -> Any:
    def arrange(engine: FakeEngine) -> None:
        engine.images.clear()
        engine.pull_error = cause

    return arrange


def _unbuildable(engine: FakeEngine) -> None:
    engine.build_lines = [
        {"stream": "Step 1/2 : RUN pip install"},
        {"stream": "No matching distribution\n"},
        {"errorDetail": {"message": "the command returned a non-zero code: 1"}},
    ]


def _unhealthy(engine: FakeEngine) -> None:
    engine.health, engine.log = "unhealthy", "error: cannot read /state\n"


@pytest.mark.parametrize(
    ("arrange", "kind", "message", "hint"),
    [
        pytest.param(
            _taken_name,
            StackRefused,
            "the container name autoregistry is already used by another container (image nginx)",
            "docker rename autoregistry autoregistry-other  (or: docker rm --force autoregistry)",
            id="container name in use",
        ),
        pytest.param(
            _taken_network,
            StackRefused,
            "the network name autoregistry is already used by another network",
            "docker network rm autoregistry",
            id="network name in use",
        ),
        pytest.param(
            _taken_volume,
            StackRefused,
            "the volume name autoregistry-data is already used by another volume",
            "docker volume rm autoregistry-data  (deletes its content)",
            id="volume name in use (review E)",
        ),
        pytest.param(
            _unpullable("dial tcp: no such host"),
            ImageUnavailable,
            "registry:2 cannot be pulled: dial tcp: no such host",
            "autoregistry up --registry-image IMAGE  (an image that can be pulled, or that Docker has)",
            id="registry unreachable",
        ),
        pytest.param(
            _unpullable("unauthorized: authentication required"),
            ImageUnavailable,
            "registry:2 cannot be pulled: unauthorized: authentication required",
            "docker pull registry:2  (after docker login: autoregistry pulls without a login)",
            id="private image",
        ),
        pytest.param(
            _unpullable("toomanyrequests: You have reached your unauthenticated pull rate limit."),
            ImageUnavailable,
            "registry:2 cannot be pulled: toomanyrequests: You have reached your unauthenticated pull rate limit.",
            "docker pull registry:2  (after docker login: autoregistry pulls without a login)",
            id="rate limit of Docker Hub (review E)",
        ),
        pytest.param(
            _unbuildable,
            ImageUnavailable,
            "the proxy's image cannot be built: the command returned a non-zero code: 1\nNo matching distribution",
            "if PyPI cannot be reached, set PIP_INDEX_URL, or proxies in ~/.docker/config.json; then: autoregistry up",
            id="failed build",
        ),
        pytest.param(
            _unhealthy,
            StackRefused,
            "autoregistry-backend does not become healthy (running): error: cannot read /state",
            "docker logs autoregistry-backend",
            id="unhealthy container",
        ),
    ],
)
def test_each_obstacle_is_one_error_with_the_next_command(
    engine: FakeEngine, arrange: Any, kind: type[AutoregistryError], message: str, hint: str
) -> None:
    arrange(engine)

    with pytest.raises(kind) as caught:
        up(engine)
    assert (message, hint) == (caught.value.message, caught.value.hint)


def test_port_that_docker_refuses_is_reported_and_another_one_works(
    engine: FakeEngine,
) -> None:
    engine.start_error = "Bind for 127.0.0.1:5149 failed: port is already allocated"
    with pytest.raises(
        PortTaken, match=r"port 5149 on 127\.0\.0\.1 is in use by another program"
    ) as caught:
        up(engine, port=5149)
    engine.start_error = ""

    assert caught.value.hint == "autoregistry up --port 5150"
    assert up(engine, port=5150).options.port == 5150


def test_down_removes_the_volumes_only_on_request(engine: FakeEngine) -> None:
    up(engine)
    take_down(engine.daemon, lambda _: None, volumes=False)
    left = set(engine.containers), set(engine.networks), set(engine.volumes)
    take_down(engine.daemon, lambda _: None, volumes=True)

    assert left == (set(), set(), {"autoregistry-data", "autoregistry-state"})
    assert engine.volumes == {}


def test_down_keeps_volumes_that_another_program_created(engine: FakeEngine) -> None:
    """Review E: any volume with the name was removed."""
    up(engine)
    engine.volumes["autoregistry-data"] = {"Name": "autoregistry-data", "Labels": None}
    steps: list[Step] = []

    _, removed = take_down(engine.daemon, steps.append, volumes=True)

    assert removed == ["autoregistry-state"]
    assert set(engine.volumes) == {"autoregistry-data"}
    assert (
        StepDone("volume autoregistry-data", "kept: another program created it", has_changed=False)
        in steps
    )


@pytest.mark.parametrize(
    ("host", "chosen", "expected"),
    [
        pytest.param(
            "unix:///run/user/1000/docker.sock",
            None,
            ["/run/user/1000/docker.sock", "/var/run/docker.sock"],
            id="rootless, Docker Desktop or Colima, whose socket has another path inside",
        ),
        pytest.param("unix:///var/run/docker.sock", None, ["/var/run/docker.sock"], id="usual"),
        pytest.param("ssh://me@there", None, ["/var/run/docker.sock"], id="ssh"),
        pytest.param("npipe:////./pipe/docker", None, ["/var/run/docker.sock"], id="Windows"),
        pytest.param("tcp://there:2376", "/x.sock", ["/x.sock"], id="chosen"),
    ],
)
def test_socket_paths_are_tried_in_order(
    host: str, chosen: str | None, expected: list[str]
) -> None:
    assert expected == list(candidates(host, chosen))
