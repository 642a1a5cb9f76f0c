"""Answers: our own, a sentence in the status line, where every client prints it, and an OCI error; and forwarded ones.

Each of our own carries the header that names it. Refuses to decide: who answers brings the word and the sentence.
"""

from __future__ import annotations

import json

from aiohttp import web
from multidict import CIMultiDict

from autoregistry.events import Answer
from autoregistry.proxy.backend.messages import BackendResponse
from autoregistry.proxy.backend.transport import text

HEADER = "Autoregistry"
# aiohttp adds these where an answer lacks them; a forwarded answer stays as it came.
_DEFAULTS = ("Content-Type", "Server", "Date")

# Codes of the distribution-spec ("Error Codes") for answers of our own; clients print code and message.
_CODES = {
    Answer.PUSH_FAILED: "DENIED",
    Answer.NOT_MIRRORED: "NAME_UNKNOWN",
    Answer.NOT_A_REGISTRY_REQUEST: "UNSUPPORTED",
    Answer.MALFORMED_REQUEST: "UNSUPPORTED",
    Answer.FOREIGN_HOST: "DENIED",
    Answer.TOO_MANY_CONNECTIONS: "TOOMANYREQUESTS",
}


def error_response(
    answer: Answer, sentence: str, headers: dict[str, str] | None = None
) -> web.Response:
    """The answer to a request."""
    plain, said = _said(answer, sentence)
    return web.Response(
        status=answer.status or 500,
        reason=plain,
        text=said,
        content_type="application/json",
        headers={HEADER: answer.word, **(headers or {})},
    )


def raw_error_response(answer: Answer, sentence: str) -> bytes:
    """The last words to a connection on which there is no request."""
    plain, said = _said(answer, sentence)
    fields = {
        "Content-Type": "application/json; charset=utf-8",
        HEADER: answer.word,
        "Connection": "close",
        "Content-Length": str(len(said)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {answer.status} {plain}\r\n{head}\r\n{said}".encode("ascii")


def _said(answer: Answer, sentence: str) -> tuple[str, str]:
    plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in sentence)
    error = {"code": _CODES.get(answer, "UNAVAILABLE"), "message": plain, "detail": None}
    return plain, json.dumps({"errors": [error]}) + "\n"


class Forwarded(web.StreamResponse):
    """The backend's answer on its way to the client."""

    def __init__(self, held: BackendResponse, answer: Answer | None) -> None:
        headers = CIMultiDict((k.decode("latin-1"), text(v)) for k, v in held.headers)
        self.absent = [name for name in _DEFAULTS if name not in headers]
        if answer is not None:
            headers[HEADER] = answer.word
        super().__init__(status=held.status, reason=held.reason, headers=headers)


async def drop_defaults(_: web.Request, response: web.StreamResponse) -> None:
    """For aiohttp's signal before an answer's head is written."""
    if isinstance(response, Forwarded):
        for name in response.absent:
            response.headers.pop(name, None)
