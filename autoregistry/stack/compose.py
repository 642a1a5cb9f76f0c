"""The model as a compose file, with the same containers as `create_request.py`. Pure. Compose adds its own labels."""

from __future__ import annotations

import textwrap
from string import Template

import yaml

from autoregistry.stack.model import PORT_INSIDE, Mount, Service, Stack
from autoregistry.template_files import read_template


def compose_file(stack: Stack) -> str:
    """Return the text of the file."""
    network = {stack.network: {"name": stack.network, "labels": stack.labels}}
    volumes = {name: {"name": name, "labels": stack.labels} for name in stack.volumes}
    parts = {
        "services": {service.name: _service(stack, service) for service in stack.services},
        "networks": network,
        "volumes": volumes,
    }
    template = Template(read_template("compose.yaml"))
    return template.substitute(
        name=stack.options.name, **{key: _indented_yaml(value) for key, value in parts.items()}
    )


def _service(stack: Stack, service: Service) -> dict[str, object]:
    health = service.health
    rendered: dict[str, object] = {
        "container_name": service.name,
        "hostname": service.name,
        "image": service.image,
        "pull_policy": "never" if service.role == "proxy" else "missing",
        "command": list(service.command),
        "user": service.user,
        "group_add": list(service.groups),
        "environment": dict(service.environment),
        "ports": [_port(at, port) for at, port in service.published],
        "volumes": [_mount(mount) for mount in service.mounts],
        "tmpfs": list(service.tmpfs),
        "networks": [stack.network],
        "depends_on": {service.needs: {"condition": "service_healthy"}} if service.needs else {},
        "mem_limit": service.memory,
        "pids_limit": service.pids,
        "restart": service.restart,
        "stop_grace_period": f"{service.stop_seconds}s",
        "read_only": service.is_read_only,
        "cap_drop": list(service.dropped),
        "security_opt": list(service.security),
        "userns_mode": service.user_namespace,
        "logging": {"driver": service.log_driver, "options": dict(service.log_options)},
        "healthcheck": {
            "test": list(health.test),
            "interval": f"{health.interval}s",
            "timeout": f"{health.timeout}s",
            "retries": health.retries,
            "start_period": f"{health.start_period}s",
            **({"start_interval": f"{health.start_interval}s"} if health.start_interval else {}),
        },
        "labels": dict(service.labels),
    }
    return {key: value for key, value in rendered.items() if value not in (None, "", [], {})}


def _port(address: str, port: int) -> str:
    return f"{address}:{port}:{PORT_INSIDE}" if address else f"{port}:{PORT_INSIDE}"


def _mount(mount: Mount) -> dict[str, object]:
    if not mount.is_path:
        return {"type": "volume", "source": mount.source, "target": mount.target}
    bind = {"create_host_path": False}  # a missing path is an error, not a new folder
    return {"type": "bind", "source": mount.source, "target": mount.target, "bind": bind}


def _indented_yaml(value: object) -> str:
    """Return a value as indented YAML. In a compose file a single dollar begins a variable."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    return textwrap.indent(text, "  ").rstrip().replace("$", "$$")
