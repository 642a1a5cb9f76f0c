"""Answers of our own: the sentence in the status line, where every client prints it, and as an OCI error.

Each carries the header that names it. Refuses to decide: who answers brings the word and the sentence.
"""

from __future__ import annotations

import json

from aiohttp import web

from autoregistry.events import Answer

HEADER = "Autoregistry"

# Codes of the distribution-spec ("Error Codes") for answers of our own; clients print code and message.
_CODES = {
    Answer.PUSH_FAILED: "DENIED",
    Answer.NOT_MIRRORED: "NAME_UNKNOWN",
    Answer.NOT_A_REGISTRY_REQUEST: "UNSUPPORTED",
    Answer.UNREADABLE: "UNSUPPORTED",
    Answer.FOREIGN_HOST: "DENIED",
    Answer.TOO_MANY_CONNECTIONS: "TOOMANYREQUESTS",
}


def own(answer: Answer, sentence: str, headers: dict[str, str] | None = None) -> web.Response:
    """The answer to a request."""
    plain, text = _said(answer, sentence)
    return web.Response(
        status=answer.status or 500,
        reason=plain,
        text=text,
        content_type="application/json",
        headers={HEADER: answer.word, **(headers or {})},
    )


def unasked(answer: Answer, sentence: str) -> bytes:
    """The last words to a connection on which there is no request."""
    plain, text = _said(answer, sentence)
    fields = {
        "Content-Type": "application/json; charset=utf-8",
        HEADER: answer.word,
        "Connection": "close",
        "Content-Length": str(len(text)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {answer.status} {plain}\r\n{head}\r\n{text}".encode("ascii")


def _said(answer: Answer, sentence: str) -> tuple[str, str]:
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in sentence)
    error = {"code": _CODES.get(answer, "UNAVAILABLE"), "message": plain, "detail": None}
    return plain, json.dumps({"errors": [error]}) + "\n"
