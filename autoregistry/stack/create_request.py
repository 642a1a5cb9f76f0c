"""A service of the model as the Engine API's create request. Pure: what Docker is sent is what a test reads."""

from __future__ import annotations

from autoregistry.stack.model import NETWORK, PORT_INSIDE, Health, Mount, Service

_SECOND = 1_000_000_000
_PORT = f"{PORT_INSIDE}/tcp"


def create_body(service: Service) -> dict[str, object]:
    """The body of `POST /containers/create`."""
    bindings = [{"HostIp": address, "HostPort": str(port)} for address, port in service.published]
    return {
        "Image": service.image,
        "Cmd": list(service.command) or None,
        # `proxy/app.py` takes it for our name on Docker's networks.
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
            "RestartPolicy": {"Name": service.restart},
            "ReadonlyRootfs": service.is_read_only,
            "CapDrop": list(service.dropped),
            "SecurityOpt": list(service.security),
            "GroupAdd": list(service.groups),
            "UsernsMode": service.user_namespace,
            "LogConfig": {"Type": service.log.driver, "Config": dict(service.log.options)},
        },
    }


def _health(health: Health) -> dict[str, object]:
    start = {} if health.start_interval is None else {"StartInterval": health.start_interval}
    return {
        "Test": list(health.test),
        "Interval": health.interval * _SECOND,
        **{name: int(seconds * _SECOND) for name, seconds in start.items()},
        "Timeout": health.timeout * _SECOND,
        "Retries": health.retries,
        "StartPeriod": health.start_period * _SECOND,
    }


def _mount(mount: Mount) -> dict[str, object]:
    """A path that is not there is an error this way; with `Binds` Docker would make a folder of it."""
    kind = "bind" if mount.is_path else "volume"
    return {"Type": kind, "Source": mount.source, "Target": mount.target}
