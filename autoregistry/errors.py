"""The errors that users can see. Each has a message that names the thing, and the next command to type.

    AutoregistryError
    ├── DockerUnreachable    the daemon cannot be reached, or does not answer in time
    ├── DockerRefused        the daemon answered with an error
    │   ├── PushRefused      ... during a push
    │   └── ImageUnavailable an image does not exist, and can be neither pulled nor built
    ├── BackendUnreachable   the backend registry does not answer, or cannot read a tag
    ├── ProxyUnreachable     a command cannot reach the running proxy
    ├── ProxyRefused         the running proxy answered a command with an error
    ├── ListenFailed         the address to listen on is not available
    ├── StateInUse           another process uses the folder of the registry's state
    ├── LoopbackBroken       Docker's `localhost:PORT` is not this proxy, so its pushes do not arrive
    ├── StackRefused         the containers cannot be created, or are not ours to change
    │   └── PortTaken        ... because another process uses the port
    ├── ClusterRefused       a cluster does not exist, or cannot be created or changed
    └── SettingInvalid       a flag or an environment variable is invalid (exit code 2)

Only `cli/` shows them to users. Errors of libraries are translated where they occur (`engine/daemon.py`,
`proxy/backend/client.py`).
"""

from __future__ import annotations


class AutoregistryError(Exception):
    """The base class. `hint` is the next command to type, or empty."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DockerUnreachable(AutoregistryError): ...


class DockerRefused(AutoregistryError): ...


class PushRefused(DockerRefused): ...


class ImageUnavailable(DockerRefused): ...


class BackendUnreachable(AutoregistryError): ...


class ProxyUnreachable(AutoregistryError): ...


class ProxyRefused(AutoregistryError): ...


class ListenFailed(AutoregistryError): ...


class StateInUse(AutoregistryError): ...


class LoopbackBroken(AutoregistryError): ...


class StackRefused(AutoregistryError): ...


class PortTaken(StackRefused): ...


class ClusterRefused(AutoregistryError): ...


class SettingInvalid(AutoregistryError):
    exit_code = 2
