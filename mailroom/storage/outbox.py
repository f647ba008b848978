"""The outbox: bodies of accepted mails in blobs, and tickets on the queue that nudge us to send them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailroom.model.message import Message
from mailroom.model.places import OUTBOX_CONTAINER, OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.row import Ticket
from mailroom.model.slice import Ref
from mailroom.ports import Store
from mailroom.storage.entities import check_key
from mailroom.storage.queues import BODY_LIMIT

SHOWN = 6000  # characters of what is too long for a message once its reason stands beside it: each may take six bytes
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
        told = {"reason": reason[:1000], "original": body.decode("utf-8", "replace")}
        message = msgspec.json.encode(told)
        if len(message) > BODY_LIMIT:
            message = msgspec.json.encode(told | {"original": told["original"][:SHOWN]})
        await self._store.put_ticket(OUTBOX_POISON, message)

    async def poisoned(self) -> list[Ticket]:
        """Hidden for no longer than it takes: a person who looks into the queue shall find there what nobody can read."""
        return await self._store.receive(OUTBOX_POISON, hide=1.0)

    async def drop_poisoned(self, ticket: Ticket) -> None:
        await self._store.delete_ticket(OUTBOX_POISON, ticket)


def read_ticket(body: bytes) -> Ref | None:
    """The slice that a queue message points to; None when it is no ticket, or names what no slice can be called."""
    try:
        ref = msgspec.json.decode(body, type=_TicketBody).ticket
        check_key(ref.account + ref.unit)
    except ValueError:  # msgspec's errors are ValueErrors, and so is that of bytes that are no UTF-8
        return None
    return ref


def slice_of(name: str) -> Ref | None:
    """The slice whose body lies in the blob of that name; None when it is none of ours."""
    account, _, rest = name.partition("/")
    unit, _, number = rest.rpartition("/")
    return Ref(account, unit, int(number)) if unit and number.isdecimal() else None


def _name(ref: Ref) -> str:
    return f"{ref.account}/{ref.unit}/{ref.slice:05}"
