"""A cluster takes half a minute to make: modules that follow one another and want the same one share it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

_T = TypeVar("_T")
_open: dict[str, tuple[object, ExitStack]] = {}


def shared(store: str, make: Callable[[ExitStack], _T]) -> _T:
    """What is there already for this store of Docker's, or made now; what `make` puts on the stack ends it."""
    if store not in _open:
        with ExitStack() as stack:
            _open[store] = (make(stack), stack.pop_all())
    found: _T = _open[store][0]  # type: ignore[assignment]  # one kind of thing is shared
    return found


def let_go(wanted: str = "") -> None:
    """End what nobody wants any more: all but that store's."""
    for store in [store for store in _open if store != wanted]:
        _open.pop(store)[1].close()
