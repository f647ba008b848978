"""What every object of the vault has in common on the wire: ids, bodies, pages, attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.vault.errors import bad_parameter
from sandbox.vault.shelves import RECOVERABLE_DAYS, Item

NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
PAGE = 25
DAY = 86_400

ItemT = TypeVar("ItemT", bound=Item)


def name_in(request: Request) -> str:
    name = str(request.path_params["name"])
    if not NAME.fullmatch(name):
        raise bad_parameter(f"The request URI contains an invalid name: {name}")
    return name


def version_in(request: Request) -> str:
    return str(request.path_params.get("version", ""))


async def body_of(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise bad_parameter("The request body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise bad_parameter("The request body must be a JSON object.")
    return body


def base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def given(**members: Any) -> dict[str, Any]:
    """Without those that are not there: the service leaves them out."""
    return {name: value for name, value in members.items() if value is not None}


def attributes_in(body: dict[str, Any]) -> dict[str, Any]:
    """What a client may set, under our names."""
    asked = body.get("attributes") or {}
    return given(enabled=asked.get("enabled"), starts=asked.get("nbf"), ends=asked.get("exp"), tags=body.get("tags"))


def page(request: Request, items: Sequence[ItemT], show: Callable[[ItemT], dict[str, Any]]) -> Response:
    """At most 25 at a time; `nextLink` goes on."""
    query = request.query_params
    size = query.get("maxresults", str(PAGE))
    if not size.isdecimal() or not 1 <= int(size) <= PAGE:
        raise bad_parameter(f"maxresults must be from 1 to {PAGE}")
    token = query.get("$skiptoken", "0")
    start = int(token) if token.isdecimal() else 0
    end = start + int(size)
    following = {"api-version": query["api-version"], "$skiptoken": str(end), "maxresults": size}
    link = f"{base(request)}{request.url.path}?{urlencode(following)}" if end < len(items) else None
    return JSONResponse({"value": [show(item) for item in items[start:end]], "nextLink": link})


def deletion(request: Request, kind: str, item: Item, when: int) -> dict[str, Any]:
    return {
        "recoveryId": f"{base(request)}/deleted{kind}/{item.name}",
        "deletedDate": when,
        "scheduledPurgeDate": when + RECOVERABLE_DAYS * DAY,
    }
