"""What can go wrong, said once: a message that names the thing, and the next command to type.

    AutoregistryError
    ├── DockerUnreachable    the daemon cannot be reached, or does not answer in time
    ├── DockerRefused        the daemon answered with an error
    │   ├── PushRefused      ... in the middle of a push
    │   └── ImageUnavailable an image is not there, and can be neither pulled nor built
    ├── BackendUnreachable   the registry behind us does not answer
    │   └── TagUnreadable    ... for one tag, which it has, and cannot read
    ├── ProxyUnreachable     a command cannot ask the running proxy
    ├── ListenFailed         the address to listen on cannot be had
    ├── LoopBroken           Docker's `localhost:PORT` is somebody else, so its pushes would not reach us
    ├── StackRefused         the containers cannot be made, or are not ours to change
    │   └── PortTaken        ... because the port belongs to somebody else
    ├── ClusterRefused       a cluster is not there, or cannot be made or changed
    └── SettingInvalid       a flag or a variable makes no sense (exit code 2)

Only `cli/` shows them to people; foreign errors are turned into these where they are met (`engine/daemon.py`,
`proxy/backend/client.py`).
"""

from __future__ import annotations


class AutoregistryError(Exception):
    """The root. `hint` is the next command to type, or empty where there is none."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DockerUnreachable(AutoregistryError):
    """The daemon cannot be reached, or does not answer in time."""


class DockerRefused(AutoregistryError):
    """The daemon answered with an error."""


class PushRefused(DockerRefused):
    """A push began and ended with an error; the message is Docker's own cause."""


class ImageUnavailable(DockerRefused):
    """An image is not there, and can be neither pulled nor built."""


class BackendUnreachable(AutoregistryError):
    """The registry behind us does not answer."""


class TagUnreadable(BackendUnreachable):
    """The registry has this tag, and cannot read it."""


class ProxyUnreachable(AutoregistryError):
    """A command cannot ask the running proxy."""


class ListenFailed(AutoregistryError):
    """The address to listen on cannot be had."""


class LoopBroken(AutoregistryError):
    """Docker's `localhost:PORT` is somebody else: a push would go elsewhere, for ever."""


class StackRefused(AutoregistryError):
    """The containers of `up` cannot be made, or are not ours to change."""


class PortTaken(StackRefused):
    """The port that should be ours belongs to somebody else."""


class ClusterRefused(AutoregistryError):
    """A cluster is not there, or cannot be made or changed."""


class SettingInvalid(AutoregistryError):
    """A flag or an environment variable makes no sense."""

    exit_code = 2
