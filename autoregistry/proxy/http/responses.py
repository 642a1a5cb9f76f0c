"""Responses to clients: errors of the proxy, and forwarded responses of the backend.

Each response of the proxy's own has the header that names it, the reason in the status line, where every client
prints it, and an OCI error as its body.
"""

from __future__ import annotations

import json

from aiohttp import web
from multidict import CIMultiDict

from autoregistry.events import Answer
from autoregistry.proxy.backend.response import BackendResponse
from autoregistry.proxy.backend.transport import header_text

RESPONSE_HEADER = "Autoregistry"
# aiohttp adds these to a response that lacks them; a forwarded response stays as it came.
_DEFAULT_HEADERS = ("Content-Type", "Server", "Date")

# Error codes of the distribution-spec ("Error Codes") for the proxy's own responses; clients print code and message.
_CODES = {
    Answer.PUSH_FAILED: "DENIED",
    Answer.NOT_MIRRORED: "NAME_UNKNOWN",
    Answer.NOT_A_REGISTRY_REQUEST: "UNSUPPORTED",
    Answer.MALFORMED_REQUEST: "UNSUPPORTED",
    Answer.MANIFEST_TOO_LARGE: "SIZE_INVALID",
    Answer.FOREIGN_HOST: "DENIED",
    Answer.TOO_MANY_CONNECTIONS: "TOOMANYREQUESTS",
    Answer.TOO_BUSY: "TOOMANYREQUESTS",
}


class OwnResponse(Exception):
    """A response of the proxy's own, which ends the request. `close`: a body may follow on its connection."""

    def __init__(
        self, answer: Answer, sentence: str, *, location: str | None = None, close: bool = False
    ) -> None:
        super().__init__(sentence)
        self._answer, self._sentence = answer, sentence
        self._location, self._close = location, close

    def response(self) -> web.Response:
        reason, body = _reason_and_body(self._answer, self._sentence)
        headers = {RESPONSE_HEADER: self._answer.word, "Location": self._location}
        response = web.Response(
            status=self._answer.status or 500,
            reason=reason,
            text=body,
            content_type="application/json",
            headers={name: value for name, value in headers.items() if value},
        )
        if self._close:
            response.force_close()
        return response


def raw_error_response(answer: Answer, sentence: str) -> bytes:
    """Return the bytes of a response for a connection without a request."""
    reason, body = _reason_and_body(answer, sentence)
    return (
        f"HTTP/1.1 {answer.status} {reason}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"{RESPONSE_HEADER}: {answer.word}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode("ascii")


def _reason_and_body(answer: Answer, sentence: str) -> tuple[str, str]:
    reason = "".join(c if c.isascii() and c.isprintable() else "?" for c in sentence)
    error = {"code": _CODES.get(answer, "UNAVAILABLE"), "message": reason, "detail": None}
    return reason, json.dumps({"errors": [error]}) + "\n"


class ForwardedResponse(web.StreamResponse):
    """The backend's response on its way to the client."""

    def __init__(self, response: BackendResponse, answer: Answer | None) -> None:
        headers = CIMultiDict((k.decode("latin-1"), header_text(v)) for k, v in response.headers)
        self._absent = [name for name in _DEFAULT_HEADERS if name not in headers]
        if answer is not None:
            headers[RESPONSE_HEADER] = answer.word
        super().__init__(status=response.status, reason=response.reason, headers=headers)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        for name in self._absent:
            self.headers.pop(name, None)
