"""A service of the model as the Engine API's create request. Pure."""

from __future__ import annotations

from autoregistry.stack.model import NETWORK, PORT_INSIDE, HealthCheck, Mount, Service

_SECOND = 1_000_000_000
_PORT = f"{PORT_INSIDE}/tcp"


def create_request(service: Service) -> dict[str, object]:
    """Return the body of `POST /containers/create`."""
    bindings = [{"HostIp": address, "HostPort": str(port)} for address, port in service.published]
    return {
        "Image": service.image,
        "Cmd": list(service.command) or None,
        # The proxy uses it as its name on Docker's networks (cli/docker.py).
        "Hostname": service.name,
        "User": service.user or "",
        "StopTimeout": service.stop_seconds,
        "Env": [f"{name}={value}" for name, value in service.environment.items()],
        "Labels": dict(service.labels),
        "ExposedPorts": {_PORT: {}},
        "Healthcheck": _health(service.health),
        "HostConfig": {
            "NetworkMode": NETWORK,
            "PortBindings": {_PORT: bindings} if bindings else {},
            "Mounts": [_mount(mount) for mount in service.mounts],
            "Tmpfs": dict.fromkeys(service.tmpfs, ""),
            "Memory": service.memory,
            "PidsLimit": service.pids,
            "RestartPolicy": {"Name": service.restart},
            "ReadonlyRootfs": service.is_read_only,
            "CapDrop": list(service.dropped),
            "SecurityOpt": list(service.security),
            "GroupAdd": list(service.groups),
            "UsernsMode": service.user_namespace,
            "LogConfig": {"Type": service.log_driver, "Config": dict(service.log_options)},
        },
    }


def _health(health: HealthCheck) -> dict[str, object]:
    start = health.start_interval
    return {
        "Test": list(health.test),
        "Interval": health.interval * _SECOND,
        **({"StartInterval": int(start * _SECOND)} if start else {}),
        "Timeout": health.timeout * _SECOND,
        "Retries": health.retries,
        "StartPeriod": health.start_period * _SECOND,
    }


def _mount(mount: Mount) -> dict[str, object]:
    """Return an entry of `Mounts`. With `Binds`, Docker would create a folder for a missing path."""
    kind = "bind" if mount.is_path else "volume"
    return {"Type": kind, "Source": mount.source, "Target": mount.target}
