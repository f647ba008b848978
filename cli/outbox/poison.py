"""The poison queue as a person looks at it: messages with their reasons, put back or dropped."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from mailroom.errors import BadInput, TooLarge
from mailroom.model.places import OUTBOX_POISON, OUTBOX_QUEUE
from mailroom.model.row import Ticket
from mailroom.ports import Store
from mailroom.storage.outbox import Told, read_ticket
from mailroom.storage.queues import BODY_LIMIT

HIDDEN = 2.0  # seconds for which a message that somebody looks at is not there for others
LOOKS = 3  # the sweep and others may be looking at it, too
PAGE, PAGES = 32, 100
_ID = re.compile(r"[0-9A-Fa-f-]{4,36}")


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
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def letters(self) -> list[Letter]:
        """All of them, up to a bound; each once."""
        found: dict[str, Letter] = {}
        for _ in range(PAGES):
            tickets = await self.store.receive(OUTBOX_POISON, top=PAGE, hide=HIDDEN)
            found |= {ticket.id: Letter.read(ticket) for ticket in tickets}
            if len(tickets) < PAGE:
                break
        return list(found.values())

    async def find(self, name: str) -> Letter | None:
        """By its id, or what it begins with. Raises BadInput where several begin so. One that somebody is just looking at is waited for."""
        if not _ID.fullmatch(name):
            return None
        found = await self._begins(name.lower())
        for _ in range(LOOKS - 1):
            if found:
                break
            await self.sleep(HIDDEN + 0.5)
            found = await self._begins(name.lower())
        if len(found) > 1:
            raise BadInput("id_ambiguous", f"{len(found)} messages begin with {name!r}.", "Give more of the id.")
        return found[0] if found else None

    async def _begins(self, name: str) -> list[Letter]:
        return [letter for letter in await self.letters() if letter.id.startswith(name)]

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
