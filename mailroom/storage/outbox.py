"""The outbox: bodies of accepted mails in blobs, and tickets on the queue that nudge us to send them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailroom.model.message import Message
from mailroom.model.places import OUTBOX_CONTAINER, OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.row import Ticket
from mailroom.model.slice import Ref
from mailroom.ports import Store

_DELAY_LIMIT = 6 * 86400.0  # a queue hides nothing for longer than 7 days


class _TicketBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ticket: Ref


class StoredOutbox:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[Message, ...]).decode

    async def put(self, ref: Ref, messages: Sequence[Message]) -> None:
        await self._store.put_blob(OUTBOX_CONTAINER, _name(ref), self._encode(tuple(messages)))

    async def get(self, ref: Ref) -> tuple[Message, ...] | None:
        """None when the body is gone."""
        body = await self._store.get_blob(OUTBOX_CONTAINER, _name(ref))
        return None if body is None else self._decode(body)

    async def nudge(self, ref: Ref, due: float) -> None:
        """A ticket for this slice, hidden until it is due."""
        delay = min(max(0.0, due - self._store.now()), _DELAY_LIMIT)
        await self._store.put_ticket(OUTBOX_QUEUE, msgspec.json.encode(_TicketBody(ref)), delay=delay)

    async def poison(self, body: bytes, reason: str) -> None:
        """What nobody can read, with the reason, for a person to look at."""
        await self._store.put_ticket(OUTBOX_POISON, msgspec.json.encode({"reason": reason, "original": body.decode("utf-8", "replace")}))

    async def poisoned(self) -> list[Ticket]:
        return await self._store.receive(OUTBOX_POISON, hide=60.0)

    async def drop_poisoned(self, ticket: Ticket) -> None:
        await self._store.delete_ticket(OUTBOX_POISON, ticket)


def read_ticket(body: bytes) -> Ref | None:
    """The slice that a queue message points to; None when it is no ticket."""
    try:
        return msgspec.json.decode(body, type=_TicketBody).ticket
    except msgspec.DecodeError:  # a ValidationError is one too
        return None


def slice_of(name: str) -> Ref | None:
    """The slice whose body lies in the blob of that name; None when it is none of ours."""
    account, _, rest = name.partition("/")
    unit, _, number = rest.rpartition("/")
    return Ref(account, unit, int(number)) if unit and number.isdecimal() else None


def _name(ref: Ref) -> str:
    return f"{ref.account}/{ref.unit}/{ref.slice:05}"
