"""The ledger: what is owed, to whom it is claimed, and what became of it.

Table MailLedger, partition = account (so that a slice and its marker change in one transaction):
  `s|UNIT|00000`            a slice
  `o|CREATED|UNIT|00000`    its marker while it is owed, in the order of acceptance; `due` is when its ticket shows, 0 for "none alive"
Partition `batch|ID`, row `header`: a batch; it counts only once `committed` is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailroom.errors import StorageConflict, StorageDown
from mailroom.model.batch import Batch
from mailroom.model.places import LEDGER_TABLE
from mailroom.model.row import Change, Row, Value
from mailroom.model.slice import Mail, Ref, Slice
from mailroom.ports import Store

SETTLE_TRIES = 3


class Marker(msgspec.Struct, frozen=True):
    """An owed slice as the sweep sees it: when its ticket shows, and how often the sweep had to give it a new one."""

    ref: Ref
    created: float
    due: float
    reissued: int
    batch: bool
    etag: str


_mails_of = msgspec.json.Decoder(tuple[Mail, ...]).decode


class StoredLedger:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def insert(self, slices: Sequence[Slice]) -> None:
        """New slices of one account with their markers, at most 50. Raises StorageConflict when one is there already."""
        changes: list[Change] = []
        for slice_ in slices:
            changes += [Change("insert", _row(slice_)), Change("insert", _marker_row(slice_, slice_.claim_until))]
        await self._store.write(LEDGER_TABLE, changes)

    async def read(self, ref: Ref) -> Slice | None:
        row = await self._store.get_row(LEDGER_TABLE, ref.account, _key(ref))
        return None if row is None else _slice(row)

    async def claim(self, slice_: Slice, nonce: str, until: float) -> Slice | None:
        """The slice as ours until then, or None when somebody else was there first."""
        ours = slice_.claimed(nonce, self._store.now(), until)
        try:
            [etag] = await self._store.write(LEDGER_TABLE, [Change("replace", _row(ours))])
        except StorageConflict:
            return None
        except StorageDown:
            # the write may have won though its answer was lost: the nonce tells
            found = await self.read(slice_.ref)
            return found if found is not None and found.claim == nonce else None
        return msgspec.structs.replace(ours, etag=etag)

    async def renew(self, slice_: Slice, until: float) -> Slice | None:
        """Our claim until then; None when somebody else has the slice by now. The sweep sees it live on, too."""
        nonce = slice_.claim
        for _ in range(SETTLE_TRIES):
            longer = msgspec.structs.replace(slice_, claim_until=until)
            marker = Row(slice_.ref.account, _marker_key(slice_.ref, slice_.created), {"due": until})
            try:
                etag, _ = await self._store.write(LEDGER_TABLE, [Change("replace", _row(longer)), Change("merge", marker)])
            except (StorageConflict, StorageDown):  # who lost a claim before us may tell of a sent mail in it; or ours was written
                found = await self.read(slice_.ref)
                if found is None or found.claim != nonce:
                    return None
                slice_ = found
            else:
                return msgspec.structs.replace(longer, etag=etag)
        return None

    async def settle(self, slice_: Slice, outcomes: dict[int, Mail]) -> Slice:
        """Releases our claim with what became of the mails; without the claim only what was sent is written."""
        nonce, losses = slice_.claim, 0
        while True:
            ours = slice_.claim == nonce
            settled = slice_.settled(outcomes) if ours else slice_.with_sent(outcomes)
            if settled.mails == slice_.mails and not ours:
                return slice_
            try:
                etag, *_ = await self._store.write(LEDGER_TABLE, _settling(slice_, settled))
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

    async def put_off(self, slice_: Slice, due: float) -> None:
        """The marker tells the sweep when the slice's ticket shows now. Gone meanwhile is as good."""
        try:
            await self._store.write(LEDGER_TABLE, [Change("merge", _any_etag(_marker_row(slice_, due)))])
        except StorageConflict:
            return

    async def owed(self, account: str, top: int) -> list[Marker]:
        """The lane's oldest owed slices."""
        rows = await self._store.query(LEDGER_TABLE, account, "o|", "o}", top=top)
        return [_marker(row) for row in rows]

    async def give_ticket(self, marker: Marker, due: float, *, again: bool) -> bool:
        """Marks the slice as having a ticket; False when somebody else has just done so."""
        values: dict[str, Value] = {"due": due, "reissued": marker.reissued + 1 if again else marker.reissued}
        row = Row(marker.ref.account, _marker_key(marker.ref, marker.created), values, marker.etag)
        try:
            await self._store.write(LEDGER_TABLE, [Change("merge", row)])
        except StorageConflict:
            return False
        return True

    async def forget(self, marker: Marker) -> None:
        """A slice that was never committed, or a marker without a slice."""
        for key in (_marker_key(marker.ref, marker.created), _key(marker.ref)):
            try:
                await self._store.write(LEDGER_TABLE, [Change("delete", Row(marker.ref.account, key))])
            except StorageConflict:
                continue

    async def put_batch(self, batch: Batch, *, commit: bool) -> None:
        """The header; `commit` is the write that accepts the batch."""
        values: dict[str, Value] = {
            "caller": batch.caller,
            "created": batch.created,
            "committed": commit,
            "owed": False,
            "slices": msgspec.json.encode(batch.slices).decode(),
            "refused": batch.refused,
        }
        await self._store.write(LEDGER_TABLE, [Change("upsert", Row(_batch_key(batch.id), "header", values))])

    async def batch(self, batch_id: str) -> Batch | None:
        """A committed batch."""
        row = await self._store.get_row(LEDGER_TABLE, _batch_key(batch_id), "header")
        if row is None or not row.values["committed"]:
            return None
        values = {**row.values, "slices": msgspec.json.decode(str(row.values["slices"]))}
        return msgspec.convert({"id": batch_id, **values}, Batch)

    async def slices(self, batch: Batch) -> list[Slice]:
        found: list[Slice] = []
        for account in batch.slices:
            rows = await self._store.query(LEDGER_TABLE, account, f"s|{batch.id}|", f"s|{batch.id}}}")
            found += map(_slice, rows)
        return found


def _settling(before: Slice, after: Slice) -> list[Change]:
    """A slice that is owed has a marker, always: both change in one transaction."""
    if not before.owed:
        return [Change("replace", _row(after))]
    marker = _any_etag(_marker_row(after, after.due))
    return [Change("replace", _row(after)), Change("upsert" if after.owed else "delete", marker)]


def _any_etag(row: Row) -> Row:
    return msgspec.structs.replace(row, etag="")


def _key(ref: Ref) -> str:
    return f"s|{ref.unit}|{ref.slice:05}"


def _marker_key(ref: Ref, created: float) -> str:
    return f"o|{int(created * 1000):015}|{ref.unit}|{ref.slice:05}"


def _batch_key(batch_id: str) -> str:
    return f"batch|{batch_id}"


def _row(slice_: Slice) -> Row:
    values: dict[str, Value] = {
        "caller": slice_.caller,
        "mails": msgspec.json.encode(slice_.mails).decode(),
        "created": slice_.created,
        "batch": slice_.batch,
        "claim": slice_.claim,
        "claim_until": slice_.claim_until,
        "owed": slice_.owed,
    }
    return Row(slice_.ref.account, _key(slice_.ref), values, slice_.etag)


def _slice(row: Row) -> Slice:
    _, unit, number = row.key.split("|")
    values = row.values
    return Slice(
        ref=Ref(row.partition, unit, int(number)),
        caller=str(values["caller"]),
        mails=_mails_of(str(values["mails"])),
        created=float(values["created"]),
        batch=bool(values["batch"]),
        claim=str(values["claim"]),
        claim_until=float(values["claim_until"]),
        etag=row.etag,
    )


def _marker_row(slice_: Slice, due: float) -> Row:
    values: dict[str, Value] = {"due": due, "reissued": 0, "created": slice_.created, "batch": slice_.batch, "owed": True}
    return Row(slice_.ref.account, _marker_key(slice_.ref, slice_.created), values)


def _marker(row: Row) -> Marker:
    _, _, unit, number = row.key.split("|")
    values = row.values
    return Marker(
        ref=Ref(row.partition, unit, int(number)),
        created=float(values["created"]),
        due=float(values["due"]),
        reissued=int(values["reissued"]),
        batch=bool(values["batch"]),
        etag=row.etag,
    )
