"""What is kept no longer than `keep_days` goes: bodies, received mails, and rows of what is settled. What is still owed stays.

Each tick does a bounded part, and a place that was gone through has peace for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from mailroom.errors import StorageConflict
from mailroom.events import record
from mailroom.model.places import INBOX_CONTAINER, KEYS_TABLE, LEDGER_TABLE, OUTBOX_CONTAINER, UPLOADS_CONTAINER
from mailroom.model.row import Change, Row
from mailroom.ports import Store
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import batch_of, slice_of
from token_refresh.pace import Pace

EVERY = 6 * 3600.0
BLOBS = 1000  # a place and tick
PAGES = 20  # a table and tick
AT_ONCE = 16
UPLOADS_LONGER = 86400.0  # an upload may be named for a day: so it outlives every body that names it
TRANSACTION = 100


@dataclass(frozen=True, slots=True)
class Tidy:
    store: Store
    ledger: StoredLedger
    pace: Pace
    keep: float
    pages: int = PAGES
    blobs: int = BLOBS

    async def run(self) -> None:
        before = self.store.now() - self.keep
        for container in (OUTBOX_CONTAINER, INBOX_CONTAINER):
            await self._container(container, before)
        await self._container(UPLOADS_CONTAINER, before - UPLOADS_LONGER)
        for table in (LEDGER_TABLE, KEYS_TABLE):
            await self._table(table, before)

    async def _container(self, container: str, before: float) -> None:
        if await self.pace.due(container, EVERY) is None:
            return
        names = await self.store.old_blobs(container, before, top=self.blobs)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> bool:
            async with room:
                owed = container == OUTBOX_CONTAINER and await self._is_owed(name)
                if not owed:
                    await self.store.delete_blob(container, name)
                return not owed

        gone = sum(await asyncio.gather(*map(one, names)))
        _tell(container, gone)
        await self.pace.done(container, "more" if len(names) == self.blobs and gone else "")

    async def _is_owed(self, name: str) -> bool:
        if batch_id := batch_of(name):
            return await self.ledger.batch(batch_id) is not None
        ref = slice_of(name)
        found = await self.ledger.read(ref) if ref else None
        return found is not None and found.owed

    async def _table(self, table: str, before: float) -> None:
        after = await self.pace.due(table, EVERY)
        if after is None:
            return
        gone = 0
        for _ in range(self.pages):
            rows, after = await self.store.old_rows(table, before, after)
            for part in _transactions([row for row in rows if await self._is_over(row)]):
                gone += await self._delete(table, part)
            if not after:
                break
        _tell(table, gone)
        await self.pace.done(table, after)

    async def _is_over(self, row: Row) -> bool:
        """A batch's header stays as long as any of its slices: without it they would count as never accepted."""
        if row.values.get("owed") or row.key != "header":
            return not row.values.get("owed")
        batch = await self.ledger.batch(row.partition.partition("|")[2])
        return batch is None or not await self.ledger.is_left(batch)

    async def _delete(self, table: str, rows: list[Row]) -> int:
        """By ETag: what changes right now stays, with what goes in the same transaction, until the next time."""
        try:
            await self.store.write(table, [Change("delete", row) for row in rows])
        except StorageConflict:
            return 0
        return len(rows)


def _transactions(rows: Iterable[Row]) -> Iterator[list[Row]]:
    for _, group in groupby(rows, key=lambda row: row.partition):
        part = list(group)
        yield from (part[at : at + TRANSACTION] for at in range(0, len(part), TRANSACTION))


def _tell(place: str, gone: int) -> None:
    if gone:
        record("storage.tidied", place=place, gone=gone)
