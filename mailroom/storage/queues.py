"""The Queue service: tickets put, received, deleted and counted (`ports.Store`, its last third)."""

from __future__ import annotations

import math
from urllib.parse import quote

from mailroom.errors import TooLarge
from mailroom.model.row import Ticket
from mailroom.storage import markup
from mailroom.storage.wire import Call, Wire, code_of, failure

BODY_LIMIT = 48 * 1024  # 64 KiB once it is base64
LONGEST_DELAY = 7 * 86400

_NOT_FOUND = frozenset({404})
_GONE = frozenset({400, 404})


class Queues:
    _wire: Wire

    async def put_ticket(self, queue: str, body: bytes, *, delay: float = 0.0) -> None:
        check_size(queue, body)
        hidden = min(math.ceil(max(delay, 0.0)), LONGEST_DELAY)
        path = f"/{queue}/messages?messagettl=-1&visibilitytimeout={hidden}"
        headers = {"content-type": "application/xml"}
        await self._wire.call(Call("put ticket", "queue", queue, "POST", path, headers, markup.message(body), makes=True))

    async def receive(self, queue: str, *, top: int = 32, hide: float = 30.0) -> list[Ticket]:
        path = f"/{queue}/messages?numofmessages={top}&visibilitytimeout={max(1, math.ceil(hide))}"
        response = await self._wire.call(Call("receive", "queue", queue, "GET", path, expected=_NOT_FOUND))
        return markup.tickets(response.content) if response.is_success else []

    async def delete_ticket(self, queue: str, ticket: Ticket) -> None:
        path = f"/{queue}/messages/{quote(ticket.id, safe='')}?popreceipt={quote(ticket.receipt, safe='')}"
        call = Call("delete ticket", "queue", queue, "DELETE", path, expected=_GONE, repeats=True)
        response = await self._wire.call(call)
        if response.status_code == 400 and code_of(response) != "PopReceiptMismatch":
            raise failure(call, response.status_code, code_of(response))

    async def queue_length(self, queue: str) -> int:
        path = f"/{queue}?comp=metadata"
        response = await self._wire.call(Call("queue length", "queue", queue, "GET", path, expected=_NOT_FOUND, repeats=True))
        return int(response.headers.get("x-ms-approximate-messages-count", 0))


def check_size(queue: str, body: bytes) -> None:
    if len(body) > BODY_LIMIT:
        raise TooLarge(
            "storage_too_large", f"put ticket on {queue}: {len(body)} bytes, a message takes {BODY_LIMIT}.", "Put the body in a blob."
        )
