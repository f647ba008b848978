"""One request to a mailbox, as a handler sees it, and what it answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sandbox.graph import contract, render
from sandbox.graph.errors import bad_body, bad_request
from sandbox.graph.items import Item
from sandbox.graph.mailbox import Mailbox
from sandbox.graph.post import PostOffice
from sandbox.graph.query import Preferences, Shape

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Call:
    """`keys` are the path's variable parts after the user; `roles` what the app may do in this mailbox."""

    office: PostOffice
    box: Mailbox
    base: str  # ends in /v1.0
    user: str
    keys: tuple[str, ...]
    options: Mapping[str, str]
    prefer: Preferences
    content_type: str
    body: bytes
    roles: frozenset[str]
    lag: float = 0.0

    @property
    def here(self) -> str:
        """The user's own URL, in the shape in which links come back."""
        return f"{self.base}/users('{quote(self.user, safe='')}')"

    @property
    def basic(self) -> bool:
        return not self.roles & {"Mail.Read", "Mail.ReadWrite"}

    def json(self, kind: str) -> dict[str, Any]:
        return contract.read(kind, parse(self.content_type, self.body))

    def item(self) -> Item:
        return self.box.item(self.keys[-1])

    def show(self, item: Item, shape: Shape | None = None) -> dict[str, Any]:
        return render.message(item, shape or Shape(), self.prefer, basic=self.basic)

    def context(self, what: str) -> str:
        return f"{self.base}/$metadata#users('{quote(self.user, safe='')}')/{what}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: dict[str, Any] | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "text/plain"


def parse(content_type: str, body: bytes) -> Any:
    if not content_type:
        raise bad_request("Write requests (excluding DELETE) must contain the Content-Type header declaration.")
    if content_type != "application/json":
        raise bad_body(f"A supported MIME type could not be found that matches the content type of the request: '{content_type}'.")
    try:
        read = json.loads(body)
        if _SURROGATE.search(body):
            json.dumps(read, ensure_ascii=False).encode()  # half a pair is no text that could ever be shown again
        return read
    except (ValueError, RecursionError) as error:
        reason = "Please ensure Content-Type header is set and payload is of valid JSON format."
        raise bad_request(f"Unable to read JSON request payload. {reason}") from error
