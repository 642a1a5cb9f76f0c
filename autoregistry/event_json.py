"""Events as JSON and back, for the event stream, the history, the page and the commands.

    {"type": "push-finished", "image": "shop/api:dev", "digest": "sha256:...", ...}

Images and manifests are written as references, answers as their words. Unknown events are read as None, so that an
old command can follow a newer proxy.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_args

from autoregistry.events import Answer, Event
from autoregistry.names import Digest, Image, Manifest, parse_image

_CLASSES: dict[str, type] = {
    re.sub(r"(?<!^)([A-Z])", r"-\1", cls.__name__).lower(): cls for cls in get_args(Event)
}
_CLASSES["hand-push-seen"] = _CLASSES.pop("manual-push-seen")  # programs read the older name
_TYPES = {cls: name for name, cls in _CLASSES.items()}
_ANSWERS = {answer.word: answer for answer in Answer}


def to_json(event: Event) -> dict[str, Any]:
    """Return an event as a flat object."""
    payload: dict[str, Any] = {"type": _TYPES[type(event)]}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, Manifest) and value.namespace is not None:
            payload["namespace"] = value.namespace
        if isinstance(value, Image | Manifest):
            value = str(value)
        payload[field.name] = value.word if isinstance(value, Answer) else value
    return payload


def from_json(payload: dict[str, Any]) -> Event | None:
    """Return the event of such an object, or None if this version does not know it."""
    try:
        cls = _CLASSES[payload["type"]]
        known = {f.name: _value(f.name, payload) for f in fields(cls) if f.name in payload}
        event: Event = cls(**known)
    except (KeyError, TypeError, ValueError):
        return None
    return event


def _value(name: str, payload: dict[str, Any]) -> object:
    value = payload[name]
    match name:
        case "image":
            if (image := parse_image(str(value))) is None:
                raise ValueError(value)
            return image
        case "manifest":
            repository, at, reference = str(value).partition("@")
            if not at:
                repository, _, reference = str(value).rpartition(":")
            namespace = payload.get("namespace")
            return Manifest(repository, Digest(reference) if at else reference, namespace)
        case "answer":
            return _ANSWERS[value]
    return value
