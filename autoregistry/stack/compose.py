"""The model as a compose file, with the same containers as `up` creates. Pure. Compose adds its own labels."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from string import Template
from typing import Any

import yaml

from autoregistry.stack.model import BACKEND, LABELS, NETWORK, PROXY, SECOND, VOLUMES, Request
from autoregistry.template_files import read_template


def compose_file(name: str, services: Mapping[str, Request]) -> str:
    """Return the text of the file. `name` is the one that images are tagged with."""
    return Template(read_template("compose.yaml")).substitute(
        name=name,
        services=_indented_yaml(
            {service: _service(service, body) for service, body in services.items()}
        ),
        networks=_indented_yaml({NETWORK: {"name": NETWORK, "labels": LABELS}}),
        volumes=_indented_yaml({v: {"name": v, "labels": LABELS} for v in VOLUMES}),
    )


def _service(name: str, body: Request) -> dict[str, object]:
    is_proxy = name == PROXY
    host, log = body["HostConfig"], body["HostConfig"]["LogConfig"]
    rendered: dict[str, object] = {
        "container_name": name,
        "hostname": body["Hostname"],
        "image": body["Image"],
        "pull_policy": "never" if is_proxy else "missing",
        "command": body["Cmd"],
        "user": body["User"],
        "group_add": host["GroupAdd"],
        "environment": dict(variable.split("=", 1) for variable in body["Env"]),
        "ports": [
            f"{b['HostIp']}:{b['HostPort']}:{inside.removesuffix('/tcp')}".removeprefix(":")
            for inside, bindings in host["PortBindings"].items()
            for b in bindings
        ],
        "volumes": [_mount(mount) for mount in host["Mounts"]],
        "tmpfs": list(host["Tmpfs"]),
        "networks": [host["NetworkMode"]],
        "depends_on": {BACKEND: {"condition": "service_healthy"}} if is_proxy else {},
        "mem_limit": host["Memory"],
        "pids_limit": host["PidsLimit"],
        "restart": host["RestartPolicy"]["Name"],
        "stop_grace_period": f"{body['StopTimeout']}s",
        "read_only": host["ReadonlyRootfs"],
        "cap_drop": host["CapDrop"],
        "security_opt": host["SecurityOpt"],
        "userns_mode": host["UsernsMode"],
        "logging": {"driver": log["Type"], "options": log["Config"]},
        "healthcheck": _health(body["Healthcheck"]),
        "labels": body["Labels"],
    }
    return {key: value for key, value in rendered.items() if value not in (None, "", [], {})}


def _health(health: Mapping[str, Any]) -> dict[str, object]:
    durations = sorted(health.keys() - {"Test", "Retries"})
    names = {key: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower() for key in durations}
    seconds = {name: f"{health[key] / SECOND:g}s" for key, name in names.items()}
    return {"test": health["Test"], "retries": health["Retries"], **seconds}


def _mount(mount: Mapping[str, str]) -> dict[str, object]:
    rendered: dict[str, object] = {key.lower(): value for key, value in mount.items()}
    if mount["Type"] == "bind":
        # A missing path is an error, not a new folder.
        rendered["bind"] = {"create_host_path": False}
    return rendered


def _indented_yaml(value: object) -> str:
    """Return a value as indented YAML. In a compose file a single dollar begins a variable."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return textwrap.indent(text, "  ").rstrip().replace("$", "$$")
