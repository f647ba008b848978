"""The poison queue as a person looks at it: messages with their reasons, put back or dropped."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mailroom.errors import BadInput, TooLarge
from mailroom.model.places import OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.row import Ticket
from mailroom.ports import Store
from mailroom.storage.outbox import Told, read_ticket
from mailroom.storage.queues import BODY_LIMIT

LOOKED, HELD = 5.0, 60.0  # seconds for which a message is not there for others: looked at, or about to be put back or dropped
MOST = 3200
SHORTEST = 4  # characters of an id that may stand for all of it


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the poison queue. `reason` is "" where nobody has told one yet."""

    ticket: Ticket
    reason: str
    original: bytes

    @property
    def id(self) -> str:
        return self.ticket.id

    @staticmethod
    def read(ticket: Ticket) -> Letter:
        try:
            told = msgspec.json.decode(ticket.body, type=Told)
        except ValueError:
            waits = "a ticket of ours, which the next sweep clears away" if read_ticket(ticket.body) else ""
            return Letter(ticket, waits, ticket.body)
        return Letter(ticket, told.reason, told.original.encode())


@dataclass(frozen=True, slots=True)
class Poison:
    store: Store

    async def letters(self, hide: float = LOOKED) -> list[Letter]:
        """All of them, up to a bound; each once."""
        found: dict[str, Letter] = {}
        while len(found) < MOST:
            tickets = await self.store.receive(OUTBOX_POISON, top=32, hide=hide)
            found |= {ticket.id: Letter.read(ticket) for ticket in tickets}
            if len(tickets) < 32:
                break
        return list(found.values())

    async def find(self, name: str) -> Letter | None:
        """By its id, or what it begins with. Raises BadInput where several begin so."""
        if len(name) < SHORTEST:
            return None
        found = [letter for letter in await self.letters(HELD) if letter.id.startswith(name.lower())]
        if len(found) > 1:
            raise BadInput("id_ambiguous", f"{len(found)} messages begin with {name!r}.", "Give more of the id.")
        return found[0] if found else None

    async def put_back(self, letter: Letter, instead: bytes | None = None) -> None:
        """On the queue once more, as it was or as somebody has corrected it.

        Killed in between it lies in both; with an id it is one mail all the same.
        """
        body = letter.original if instead is None else instead.strip()
        _check(letter, body)
        await self.store.put_ticket(OUTBOX_QUEUE, body)
        await self.drop(letter)

    async def drop(self, letter: Letter) -> None:
        await self.store.delete_ticket(OUTBOX_POISON, letter.ticket)


def _check(letter: Letter, body: bytes) -> None:
    """What is no JSON object would only come back; a long message was cut when it was put aside."""
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except ValueError as error:
        step = f"Correct it, and put it back with `mailroom outbox requeue {letter.id[:8]} --with FILE`."
        raise BadInput("not_json", f"The message is not a JSON object: {error}.", step) from error
    if len(body) > BODY_LIMIT:
        raise TooLarge("message_too_large", f"The message has {len(body)} bytes; the queue takes {BODY_LIMIT}.", "Send it over HTTP.")
