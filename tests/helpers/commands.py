"""The function type that runs a command, and names in the output of commands."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from autoregistry.stack.images import image_source

Type = Callable[..., Result]
"""Runs `autoregistry` with these arguments (the fixture `typed` of tests/cli)."""
PORT = "5149"
"""A port without a listener, so that commands reach the proxy through its container."""
IMAGE = image_source("python:3.13-slim").tag
"""The image that `up` builds for the proxy."""
