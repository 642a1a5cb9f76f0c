"""HTTP without TLS, for clients in tests: httpx reads the certificates of all authorities for each client it makes.

That takes 0.1 s of a processor, longer than most pushes of the fakes.
"""

from __future__ import annotations

import ssl

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Knows no authority: any TLS would fail."""
