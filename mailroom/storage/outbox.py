"""The outbox: bodies of accepted mails in blobs, and tickets on the queue that nudge us to send them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.message import Attachment, Message
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


class _IntakeTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accept: str


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message of the poison queue, put aside for a person."""

    reason: str
    original: str


class _Again(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    again: int
    message: msgspec.Raw


class _Sharing(msgspec.Struct, frozen=True):
    """Mails whose attachments lie once for their whole batch, in that blob."""

    shared: str
    messages: tuple[Message, ...]


class Plain(msgspec.Struct, frozen=True):
    """A message that another application put on the queue, and how often it was put back there out of the poison queue."""

    body: bytes
    again: int = 0

    @staticmethod
    def read(body: bytes) -> Plain:
        body = body.removeprefix(b"\xef\xbb\xbf").strip()
        try:
            found = msgspec.json.decode(body, type=_Again)
        except ValueError:
            return Plain(body)
        return Plain(bytes(found.message).strip(), found.again)


class StoredOutbox:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[Message, ...] | _Sharing).decode
        self._decode_shared = msgspec.msgpack.Decoder(tuple[Attachment, ...]).decode
        self._last: tuple[str, tuple[Attachment, ...]] = "", ()

    async def put(self, ref: Ref, messages: Sequence[Message], *, sharing: bool = False) -> None:
        """With `sharing` each mail's attachments are those that `share` has put away for all mails of the batch."""
        await self._store.put_blob(OUTBOX_CONTAINER, _name(ref), self._body(ref, messages, sharing))

    async def put_once(self, ref: Ref, messages: Sequence[Message], *, sharing: bool = False) -> None:
        """As `put`, but never over another body: who was frozen for long shall not write over what is accepted. Raises StorageConflict."""
        body = self._body(ref, messages, sharing)
        name = _name(ref)
        new = await self._store.put_blob(OUTBOX_CONTAINER, name, body, only_if_absent=True)
        if not new and await self._store.get_blob(OUTBOX_CONTAINER, name) != body:
            raise StorageConflict("storage_conflict", f"{name} is there already, with other mails.")

    def _body(self, ref: Ref, messages: Sequence[Message], sharing: bool) -> bytes:
        if not sharing:
            return self._encode(tuple(messages))
        # a form of its own: a version that does not know it fails on it, instead of sending mails without their attachments
        return self._encode(_Sharing(shared_name(ref.unit), tuple(msgspec.structs.replace(one, attachments=()) for one in messages)))

    async def share(self, batch_id: str, attachments: Sequence[Attachment]) -> None:
        await self._store.put_blob(OUTBOX_CONTAINER, shared_name(batch_id), self._encode(tuple(attachments)))

    async def get(self, ref: Ref) -> tuple[Message, ...] | None:
        """None when the body is gone, or what it shares."""
        body = await self._store.get_blob(OUTBOX_CONTAINER, _name(ref))
        found = None if body is None else self._decode(body)
        if not isinstance(found, _Sharing):
            return found
        shared = await self._shared(found.shared)
        return None if shared is None else tuple(msgspec.structs.replace(message, attachments=shared) for message in found.messages)

    async def _shared(self, name: str) -> tuple[Attachment, ...] | None:
        """The last one is remembered: the slices of a batch follow each other."""
        kept, attachments = self._last
        if kept != name:
            body = await self._store.get_blob(OUTBOX_CONTAINER, name)
            if body is None:
                return None
            attachments = self._decode_shared(body)
            self._last = name, attachments
        return attachments

    async def nudge(self, ref: Ref, due: float) -> None:
        """A ticket for this slice, hidden until it is due."""
        delay = min(max(0.0, due - self._store.now()), _DELAY_LIMIT)
        await self._store.put_ticket(OUTBOX_QUEUE, msgspec.json.encode(_TicketBody(ref)), delay=delay)

    async def nudge_intake(self, batch_id: str, due: float = 0.0) -> None:
        """A ticket for a batch that is accepted out of a blob."""
        delay = max(0.0, due - self._store.now())
        await self._store.put_ticket(OUTBOX_QUEUE, msgspec.json.encode(_IntakeTicket(batch_id)), delay=delay)

    async def poison(self, body: bytes, reason: str) -> None:
        """What nobody can read, with the reason, for a person to look at."""
        if not await self.put_aside(body, reason):
            await self.put_aside(body.decode("utf-8", "replace")[:SHOWN].encode(), reason)

    async def put_aside(self, body: bytes, reason: str) -> bool:
        """As `poison`, but whole or not at all: False where it is too large with the reason beside it."""
        return await self._fits(OUTBOX_POISON, msgspec.json.encode(Told(reason[:1000], body.decode("utf-8", "replace"))))

    async def put_again(self, plain: Plain) -> bool:
        """On the queue once more; False where it is too large with the count beside it."""
        return await self._fits(OUTBOX_QUEUE, msgspec.json.encode(_Again(plain.again + 1, msgspec.Raw(plain.body))))

    async def _fits(self, queue: str, message: bytes) -> bool:
        if len(message) > BODY_LIMIT:
            return False
        await self._store.put_ticket(queue, message)
        return True

    async def poisoned(self, top: int = 32, *, hide: float = 1.0) -> list[Ticket]:
        """Hidden for no longer than it takes: a person who looks into the queue shall find there what nobody can read."""
        return await self._store.receive(OUTBOX_POISON, top=top, hide=hide)

    async def put_behind(self, ticket: Ticket) -> None:
        """The same at the end of the poison queue. What the host put there as it came may be too large for us, and stays."""
        if await self._fits(OUTBOX_POISON, ticket.body):
            await self.drop_poisoned(ticket)

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


def read_intake(body: bytes) -> str | None:
    """The batch whose accepting a queue message shall bring further; None when it is no such ticket."""
    try:
        batch_id = msgspec.json.decode(body, type=_IntakeTicket).accept
        check_key(batch_id)
    except ValueError:
        return None
    return batch_id


def was_told(body: bytes) -> bool:
    """Whether it was put aside with its reason."""
    try:
        msgspec.json.decode(body, type=Told)
    except ValueError:
        return False
    return True


def shared_name(batch_id: str) -> str:
    return f"batches/{batch_id}/shared"


def batch_of(name: str) -> str | None:
    """The batch to whose mails the blob of that name belongs; None when it is none of a whole batch."""
    first, _, rest = name.partition("/")
    batch_id, _, last = rest.rpartition("/")
    return batch_id if first == "batches" and not last.isdecimal() else None


def slice_of(name: str) -> Ref | None:
    """The slice whose body lies in the blob of that name; None when it is none of ours."""
    account, _, rest = name.partition("/")
    unit, _, number = rest.rpartition("/")
    return Ref(account, unit, int(number)) if unit and number.isdecimal() else None


def _name(ref: Ref) -> str:
    return f"{ref.account}/{ref.unit}/{ref.slice:05}"
