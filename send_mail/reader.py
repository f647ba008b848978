"""Reads a batch out of its blob, portion by portion: lines that may be owed, and those that may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from mailroom.errors import BadInput
from mailroom.model.batch import RefusedLine
from mailroom.model.intake import Intake
from mailroom.model.message import Message
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.ports import Store
from send_mail import batches, portions
from send_mail.accept import Accept
from send_mail.ids import Ids
from send_mail.intake import Order, Wanted, begins, order_name
from send_mail.line import Line, Owed
from send_mail.portions import LINES, PORTION, Head, Window
from send_mail.recipients import from_json
from send_mail.spread import Spread
from send_mail.templates import Merge, Merged

AT_ONCE = 8

Make = Callable[[], Message]


@dataclass(frozen=True, slots=True)
class Read:
    """A portion's lines, and the intake as it stands once they are written: further by that portion, but with the shares of before."""

    good: Sequence[Owed]
    refused: list[RefusedLine]
    after: Intake
    new_ids: bytes


@dataclass
class Reader:
    """For one intake and one process. `allow` raises Forbidden for a client and an account that it may not use."""

    accept: Accept
    allow: Callable[[str, str], None]
    order: Order
    wanted: Wanted
    window: Window
    head: Head
    merge: Merge | None
    most: int = LINES
    ids: Ids = field(default_factory=Ids)

    @staticmethod
    async def of(intake: Intake, accept: Accept, allow: Callable[[str, str], None], most: int = LINES) -> Reader:
        """Raises BadInput where the upload or the order is gone."""
        store = accept.deliver.store
        body = await store.get_blob(OUTBOX_CONTAINER, order_name(intake.id))
        if body is None:
            raise BadInput("order_missing", "What the batch was to be is no longer in storage.", "Send the batch again.")
        order = msgspec.msgpack.decode(body, type=Order)
        wanted = msgspec.json.decode(order.wanted, type=Wanted)
        window = Window(store, intake.blob, intake.size, intake.etag)
        asked = wanted.asked
        merge = None if asked is None else await asyncio.to_thread(Merge.of, asked, order.shared)
        reader = Reader(accept, allow, order, wanted, window, await begins(wanted, window), merge, most)
        if intake.ids:
            await reader._load(intake)
        return reader

    async def read(self, intake: Intake) -> Read:
        """The next portion. Raises what is wrong with its first bad line, unless the batch is partial."""
        window = await self.window.read(intake.offset, PORTION)
        good, refused, after = await asyncio.to_thread(self._sorted, intake, window)
        if self.merge is None:
            good, refused = await self._attached(good, refused, intake)
        after = msgspec.structs.replace(after, ids=intake.ids + sum(one.id is not None for one in good))
        return Read(good, refused, msgspec.structs.replace(after, refused=intake.refused + len(refused)), self.ids.take_new())

    def _sorted(self, intake: Intake, window: bytes) -> tuple[list[Owed], list[RefusedLine], Intake]:
        spread = Spread(self.order.accounts, self.accept.deliver.accounts, intake.turns) if self.order.accounts else None
        last = intake.offset + len(window) == intake.size
        items, length, lines = self._items(window, intake.line, last, spread.next if spread else _nobody)
        line, alone = (_line, "") if self.merge is None else (Merged.of, "variable_missing")
        good, refused = batches.sorted_out(
            items, lambda message: self._check(intake, message), line, partial=intake.partial, alone=alone, seen=self.ids
        )
        offset, turns = intake.offset + length, spread.done if spread else ()
        return good, refused, msgspec.structs.replace(intake, offset=offset, line=intake.line + lines, chunk=intake.chunk + 1, turns=turns)

    def _items(self, window: bytes, line: int, last: bool, turn: Callable[[], str]) -> tuple[list[tuple[int, Make]], int, int]:
        """What makes each line's message, with the line's number; how many bytes and lines those are."""
        if self.merge is not None and self.wanted.format == "csv":
            rows = portions.csv_rows(window, line, self.head, last=last, most=self.most)
            return [(number, self.merge.drawing(row, turn())) for number, row in rows.items], rows.length, rows.lines
        texts = portions.ndjson(window, line, last=last, most=self.most)
        return [(number, self._make(text, turn())) for number, text in texts.items], texts.length, texts.lines

    def _make(self, text: bytes, account: str) -> Make:
        if self.merge is None:
            return batches.reading(text, account)
        [(_, row)] = from_json([msgspec.Raw(text)])
        return self.merge.drawing(row, account)

    def _check(self, intake: Intake, message: Message) -> None:
        self.allow(intake.caller, message.account)
        self.accept.check(message)

    async def _attached(self, good: list[Owed], refused: list[RefusedLine], intake: Intake) -> tuple[list[Owed], list[RefusedLine]]:
        """The lines with their uploads, each of which is looked up once."""
        lines = [line for line in good if isinstance(line, Line)]
        uploads = self.accept.uploads
        found = await uploads.find((line.message for line in lines), intake.caller)
        if not found:
            return good, refused

        def attach(message: Message) -> Message:
            ready = uploads.attached(message, found, intake.caller)
            self.accept.check(ready)
            return ready

        ready, all_refused = batches.attached(lines, refused, attach, partial=intake.partial)
        return list(ready), all_refused

    async def _load(self, intake: Intake) -> None:
        """The ids of the portions before."""
        store, room = self.window.store, asyncio.Semaphore(AT_ONCE)

        async def part(chunk: int) -> bytes:
            async with room:
                return await store.get_blob(OUTBOX_CONTAINER, ids_name(intake.id, chunk)) or b""

        for taken in await asyncio.gather(*map(part, range(intake.chunk))):
            self.ids.load(taken)


async def forget_parts(store: Store, intake: Intake) -> None:
    """What was kept beside the batch for as long as it was read."""
    room = asyncio.Semaphore(AT_ONCE)

    async def part(name: str) -> None:
        async with room:
            await store.delete_blob(OUTBOX_CONTAINER, name)

    names = [name(intake.id, chunk) for chunk in range(intake.chunk) for name in (ids_name, refused_part)]
    await asyncio.gather(*map(part, [order_name(intake.id), *names]))


def ids_name(batch_id: str, chunk: int) -> str:
    return f"batches/{batch_id}/ids-{chunk:05}"


def refused_part(batch_id: str, chunk: int) -> str:
    return f"batches/{batch_id}/refused-{chunk:05}"


def _line(number: int, message: Message, _: Make) -> Owed:
    return Line(number, message)


def _nobody() -> str:
    return ""
