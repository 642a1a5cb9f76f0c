"""HTTP without TLS, for clients in tests: httpx reads all CA certificates for each client.

That takes 0.1 s of a processor, longer than most pushes of the fakes.
"""

from __future__ import annotations

import ssl

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A context without CA certificates: every TLS connection would fail."""
