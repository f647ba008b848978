"""The names of a request to Graph: ours (client-request-id) and Graph's own (request-id), by which Microsoft's support finds it.

learn.microsoft.com/graph/best-practices-concept, "Reliability and support"
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import httpx

from mailroom.errors import ProviderError

E = TypeVar("E", bound=ProviderError)


class Ids(NamedTuple):
    request_id: str | None
    client_request_id: str | None


def ids(answer: httpx.Response) -> Ids:
    return Ids(answer.headers.get("request-id"), answer.request.headers.get("client-request-id"))


def unanswered(error: httpx.RequestError) -> Ids:
    """Of a request whose answer never came, Graph's name is not known."""
    return Ids(None, error.request.headers.get("client-request-id"))


def named(error: E, of: Ids) -> E:
    error.request_id, error.client_request_id = of
    return error
