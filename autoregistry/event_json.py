"""Events as JSON, and back: the one form that stream, journal, page and commands share.

    {"type": "push-finished", "image": "shop/api:dev", "digest": "sha256:...", ...}

Images and manifests are what people call them, an answer is its word. What this version does not know is None,
so that an old command can follow a newer proxy.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_args

from autoregistry.events import Answer, Event
from autoregistry.names import Digest, Image, Manifest, parse_image

_TYPES: dict[str, type] = {
    re.sub(r"(?<!^)([A-Z])", r"-\1", kind.__name__).lower(): kind for kind in get_args(Event)
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_ANSWERS = {answer.word: answer for answer in Answer}


def to_json(event: Event) -> dict[str, Any]:
    """An event as a flat object."""
    found: dict[str, Any] = {"type": _NAMES[type(event)]}
    for field in fields(event):
        value = getattr(event, field.name)
        match value:
            case Image():
                value = str(value)
            case Manifest(namespace=namespace):
                value = str(value)
                if namespace is not None:
                    found["namespace"] = namespace
            case Answer():
                value = value.word
        found[field.name] = value
    return found


def from_json(said: dict[str, Any]) -> Event | None:
    """The event again; None for what this version does not know."""
    kind = _TYPES.get(str(said.get("type")))
    if kind is None:
        return None
    try:
        known = {f.name: _value(f.name, said) for f in fields(kind) if f.name in said}
        event: Event = kind(**known)
    except (KeyError, TypeError, ValueError):
        return None
    return event


def _value(name: str, said: dict[str, Any]) -> object:
    value = said[name]
    match name:
        case "image":
            if (image := parse_image(str(value))) is None:
                raise ValueError(value)
            return image
        case "manifest":
            return _manifest(str(value), said.get("namespace"))
        case "answer":
            return _ANSWERS[value]
        case _:
            return value


def _manifest(text: str, namespace: str | None) -> Manifest:
    repository, at, digest = text.partition("@")
    if at:
        return Manifest(repository, Digest(digest), namespace)
    repository, _, tag = text.rpartition(":")
    return Manifest(repository, tag, namespace)
