"""The ledger: what is owed, to whom it is claimed, and what became of it.

Table MailLedger, partition = account (so that a slice and its marker change in one transaction):
  `s|UNIT|00000`            a slice
  `o|CREATED|UNIT|00000`    its marker while it is owed, in the order of acceptance; `due` is when its ticket shows, 0 for "none alive".
                            What is scheduled counts as created when it shall be sent, so it lies behind all that is owed by now
Partition `batch|ID`, row `header`: a batch; it counts only once `committed` is there.
Partition `~accounts`, row = account: an account that something was ever owed of, also when accounts.toml has it no longer.

A row that says more than this version knows was written by a newer one: reading it raises LedgerNewer, and nothing is written over it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from mailroom.errors import StorageConflict, StorageDown
from mailroom.model.batch import Batch
from mailroom.model.places import LEDGER_TABLE
from mailroom.model.row import Change, Row, Value
from mailroom.model.slice import SLICE_MAILS, Mail, Ref, Slice
from mailroom.ports import Store
from mailroom.storage.ledger_rows import (
    Marker,
    any_etag,
    batch_key,
    header,
    marker_key,
    marker_row,
    read_batch,
    read_marker,
    read_slice,
    slice_key,
    slice_row,
    unit_prefix,
)

SETTLE_TRIES = 3
SOON = 90.0  # seconds: longer than from one sweep to the next, so that what is scheduled has its ticket in time
AHEAD = 1000  # slices: a page of the table
PAGE = 500  # slices of a batch that are read at a time
FORGOTTEN_AT_ONCE = 40  # slices with their markers: 80 of the 100 changes that a table transaction takes

_ACCOUNTS = "~accounts"


class StoredLedger:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened: set[str] = set()

    async def open(self, account: str) -> None:
        """Before anything of it is accepted, so that the sweep finds what it owes for as long as it owes it."""
        if account not in self._opened:
            await self._store.write(LEDGER_TABLE, [Change("upsert", Row(_ACCOUNTS, account, {"owed": True}))])
            self._opened.add(account)

    async def accounts(self) -> list[str]:
        """All that were ever opened."""
        return [row.key for row in await self._store.query(LEDGER_TABLE, _ACCOUNTS)]

    async def insert(self, slices: Sequence[Slice]) -> list[str]:
        """New slices of one account with their markers, at most 50; their ETags. Raises StorageConflict when one is there already."""
        changes: list[Change] = []
        for slice_ in slices:
            marker = marker_row(slice_, slice_.claim_until)
            if all(mail.due == slice_.created for mail in slice_.mails):
                marker.values["scheduled"] = True
            changes += [Change("insert", slice_row(slice_)), Change("insert", marker)]
        return (await self._store.write(LEDGER_TABLE, changes))[::2]

    async def read(self, ref: Ref) -> Slice | None:
        row = await self._store.get_row(LEDGER_TABLE, ref.account, slice_key(ref))
        return None if row is None else read_slice(row)

    async def claim(self, slice_: Slice, nonce: str, until: float) -> Slice | None:
        """The slice as ours until then, or None when somebody else was there first."""
        ours = slice_.claimed(nonce, self._store.now(), until)
        try:
            [etag] = await self._store.write(LEDGER_TABLE, [Change("replace", slice_row(ours))])
        except (StorageConflict, StorageDown):
            # it may have won though its answer was lost, also where a repeat on the way then lost to it: the nonce tells
            found = await self.read(slice_.ref)
            return found if found is not None and found.claim == nonce else None
        return msgspec.structs.replace(ours, etag=etag)

    async def renew(self, slice_: Slice, until: float) -> Slice | None:
        """Our claim until then; None when somebody else has the slice by now. The sweep sees it live on, too."""
        nonce = slice_.claim
        for _ in range(SETTLE_TRIES):
            longer = msgspec.structs.replace(slice_, claim_until=until)
            marker = Row(slice_.ref.account, marker_key(slice_.ref, slice_.created), {"due": until})
            try:
                etag, _ = await self._store.write(LEDGER_TABLE, [Change("replace", slice_row(longer)), Change("merge", marker)])
            except (StorageConflict, StorageDown):  # who lost a claim before us may tell of a sent mail in it; or ours was written
                found = await self.read(slice_.ref)
                if found is None or found.claim != nonce:
                    return None
                slice_ = found
            else:
                return msgspec.structs.replace(longer, etag=etag)
        return None

    async def settle(self, slice_: Slice, outcomes: dict[int, Mail], *, ticket: bool = True) -> Slice:
        """Releases our claim with what became of the mails; without the claim only what was sent is written.

        `ticket` says whether the slice has one afterwards, if it is still owed.
        """
        nonce, losses = slice_.claim, 0
        while True:
            ours = slice_.claim == nonce
            settled = slice_.settled(outcomes) if ours else slice_.with_sent(outcomes)
            if settled.mails == slice_.mails and not ours:
                return slice_
            try:
                etag, *_ = await self._store.write(LEDGER_TABLE, _settling(slice_, settled, ticket=ticket))
            except StorageConflict:
                pass
            except StorageDown:
                losses += 1  # it may have been written all the same: what is read back tells
                if losses == SETTLE_TRIES:
                    raise
            else:
                return msgspec.structs.replace(settled, etag=etag)
            current = await self.read(slice_.ref)
            if current is None:
                return settled
            slice_ = current

    async def amend(self, changes: Sequence[tuple[Slice, Slice]]) -> bool:
        """Slices of one account, at most 50, each as it was read and as it shall be; all or none, False when one has changed meanwhile.

        What comes to be owed again gets a marker without a ticket; only then `created` may be another.
        """
        writes: list[Change] = []
        for before, after in changes:
            writes.append(Change("replace", slice_row(after)))
            marker = any_etag(marker_row(after, 0.0))
            if before.owed != after.owed:
                writes.append(Change("upsert" if after.owed else "delete", marker))
        try:
            await self._store.write(LEDGER_TABLE, writes)
        except StorageConflict:
            return False
        return True

    async def settle_and_pass(self, slice_: Slice, outcomes: dict[int, Mail], heir: Marker, due: float) -> Slice | None:
        """As `settle`, and in the same write `heir` has its ticket; None where that was not to be, or nobody knows: then `settle` tells."""
        settled = slice_.settled(outcomes)
        try:
            etag, *_ = await self._store.write(LEDGER_TABLE, [*_settling(slice_, settled, ticket=True), _ticket(heir, due, again=False)])
        except (StorageConflict, StorageDown):
            return None
        return msgspec.structs.replace(settled, etag=etag)

    async def put_off(self, slice_: Slice, due: float) -> None:
        """The marker tells the sweep when the slice's ticket shows now. Gone meanwhile is as good."""
        try:
            await self._store.write(LEDGER_TABLE, [Change("merge", any_etag(marker_row(slice_, due)))])
        except StorageConflict:
            return

    async def owed(self, account: str, top: int, counts: Callable[[Marker], Awaitable[bool]] | None = None) -> list[Marker]:
        """The lane's oldest owed slices, but none that shall be sent later than soon.

        `counts` is asked of each slice of a batch that has had no ticket. Where it says no the whole batch, which may have thousands of
        them, is passed over by key.
        """
        found: list[Marker] = []
        first, soon = "o|", self._store.now() + SOON
        while len(found) < top:
            for marker in map(read_marker, await self._store.query(LEDGER_TABLE, account, first, "o}", top=top - len(found))):
                if marker.scheduled and marker.created > soon:  # and whatever lies behind it is later still
                    return found
                if counts and marker.batch and not marker.due and not await counts(marker):
                    first = f"{unit_prefix(marker.ref, marker.created)}}}"
                    break
                found.append(marker)
            else:
                break
        return found

    async def ahead(self, ref: Ref, created: float) -> int:
        """How many mails of the account are owed from before that unit; each slice counts as full, and AHEAD of them are looked at."""
        rows = await self._store.query(LEDGER_TABLE, ref.account, "o|", unit_prefix(ref, created), top=AHEAD)
        return sum(SLICE_MAILS if marker.batch else 1 for marker in map(read_marker, rows))

    async def give_ticket(self, marker: Marker, due: float, *, again: bool) -> bool:
        """Marks the slice as having a ticket; False when somebody else has just done so."""
        try:
            await self._store.write(LEDGER_TABLE, [_ticket(marker, due, again=again)])
        except StorageConflict:
            return False
        return True

    async def forget(self, marker: Marker) -> None:
        """A marker without a slice."""
        await self._delete(marker.ref.account, [marker_key(marker.ref, marker.created), slice_key(marker.ref)])

    async def forget_unit(self, marker: Marker) -> None:
        """All slices of a batch that was never committed."""
        while await self.forget_some(marker.ref, marker.created):
            pass

    async def forget_some(self, ref: Ref, created: float) -> bool:
        """Some slices of the account and unit that `ref` names; whether there may be more."""
        unit = unit_prefix(ref, created)
        rows = await self._store.query(LEDGER_TABLE, ref.account, unit, f"{unit}}}", top=FORGOTTEN_AT_ONCE)
        if rows:
            await self._delete(ref.account, [key for row in rows for key in (row.key, slice_key(read_marker(row).ref))])
        return len(rows) == FORGOTTEN_AT_ONCE

    async def _delete(self, account: str, keys: Sequence[str]) -> None:
        await self._store.write(LEDGER_TABLE, [Change("delete", Row(account, key)) for key in keys])

    async def put_batch(self, batch: Batch, *, commit: bool) -> None:
        """The header; `commit` is the write that accepts the batch."""
        await self._store.write(LEDGER_TABLE, [Change("upsert", header(batch, commit=commit))])

    async def mark_batch(self, batch_id: str, **values: Value) -> None:
        """Changes a committed header."""
        await self._store.write(LEDGER_TABLE, [Change("merge", Row(batch_key(batch_id), "header", values))])

    async def batch(self, batch_id: str) -> Batch | None:
        """A committed batch."""
        row = await self._store.get_row(LEDGER_TABLE, batch_key(batch_id), "header")
        return read_batch(batch_id, row) if row is not None and row.values["committed"] else None

    async def is_left(self, batch: Batch) -> bool:
        """Whether anything of it is still there: then its header is needed."""
        for account in batch.slices:
            if await self._store.query(LEDGER_TABLE, account, f"s|{batch.id}|", f"s|{batch.id}}}", top=1):
                return True
        return False

    async def slices(self, batch: Batch) -> list[Slice]:
        """All of them, of which there may be 50,000; where that is too much, `pages`."""
        return [slice_ async for page in self.pages(batch) for slice_ in page]

    async def pages(self, batch: Batch) -> AsyncIterator[list[Slice]]:
        """The batch's slices, by account and number, some hundreds at a time."""
        for account, count in batch.slices.items():
            for first in range(0, count, PAGE):
                yield await self.part(Ref(account, batch.id, first), min(PAGE, count - first))

    async def part(self, ref: Ref, count: int) -> list[Slice]:
        """The slice of that name and those that follow it by number."""
        last = msgspec.structs.replace(ref, slice=ref.slice + count)
        return list(map(read_slice, await self._store.query(LEDGER_TABLE, ref.account, slice_key(ref), slice_key(last))))


def _settling(before: Slice, after: Slice, *, ticket: bool) -> list[Change]:
    """A slice that is owed has a marker, always: both change in one transaction."""
    if not before.owed:
        return [Change("replace", slice_row(after))]
    marker = any_etag(marker_row(after, after.due if ticket else 0.0))
    return [Change("replace", slice_row(after)), Change("upsert" if after.owed else "delete", marker)]


def _ticket(marker: Marker, due: float, *, again: bool) -> Change:
    values: dict[str, Value] = {"due": due, "reissued": marker.reissued + 1 if again else marker.reissued}
    return Change("merge", Row(marker.ref.account, marker_key(marker.ref, marker.created), values, marker.etag))
