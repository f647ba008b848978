"""Connections for httpx's client: the API stays httpx's, the protocol is llhttp's (httptools), and what is between is small.

httpx's own way (httpcore, h11, anyio) costs about a millisecond of CPU a request, and more than two with sixteen at a time, for its pool
looks through all requests and connections with each of them: docs/performance.md.
"""

from mailroom.connections.pool import Connections

__all__ = ["Connections"]
