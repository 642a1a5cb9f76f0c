"""Sharing of clusters: creating one takes half a minute, so consecutive modules use the same one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

_T = TypeVar("_T")
_open: dict[str, tuple[object, ExitStack]] = {}


def share_cluster(store: str, create: Callable[[ExitStack], _T]) -> _T:
    """Return the cluster of this image store, created if missing; `create` puts its cleanup on the stack."""
    if store not in _open:
        with ExitStack() as stack:
            _open[store] = (create(stack), stack.pop_all())
    cluster: _T = _open[store][0]  # type: ignore[assignment]  # all shared clusters have one type
    return cluster


def close_clusters(keep: str = "") -> None:
    """Delete all shared clusters, except that of one image store."""
    for store in [store for store in _open if store != keep]:
        _open.pop(store)[1].close()
