"""Batches on their way in out of a blob: how far each has come, and when its ticket shows.

Table MailLedger, partition `batch|ID`, row `intake`: what a batch is made of, changed by ETag. It lies beside the batch's header, so that
the write that accepts the batch ends the intake, too.
Partition `~intakes`, row ID: its marker while there is work to do; `due` is when its ticket shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.batch import Batch
from mailroom.model.intake import Intake
from mailroom.model.places import LEDGER_TABLE
from mailroom.model.row import Change, Row, Value
from mailroom.ports import Store
from mailroom.storage.ledger_rows import batch_key, header

_MARKERS = "~intakes"


class Pending(msgspec.Struct, frozen=True):
    """An intake as the sweep sees it: `reissued` tickets in a row have died."""

    id: str
    created: float
    due: float
    reissued: int
    version: str


class StoredIntakes:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, intake: Intake) -> Intake:
        """The intake as it stands now: ours, or what the same request has begun before."""
        await self._store.write(LEDGER_TABLE, [Change("upsert", _marker(intake, self._store.now(), 0))])
        try:
            [version] = await self._store.write(LEDGER_TABLE, [Change("insert", _row(intake))])
        except StorageConflict:
            return await self.read(intake.id) or intake
        return msgspec.structs.replace(intake, version=version)

    async def read(self, batch_id: str) -> Intake | None:
        row = await self._store.get_row(LEDGER_TABLE, batch_key(batch_id), "intake")
        if row is None:
            return None
        return msgspec.structs.replace(msgspec.json.decode(str(row.values["intake"]), type=Intake), version=row.etag)

    async def save(self, before: Intake, after: Intake) -> Intake:
        """Raises StorageConflict when somebody else has brought it further, StorageDown when nobody knows: then the next ticket tells."""
        return await self._save(before, after, [])

    async def accept(self, before: Intake, after: Intake, batch: Batch) -> Intake:
        """The write that accepts the batch. Raises StorageConflict as `save` does."""
        return await self._save(before, after, [Change("upsert", header(batch, commit=True))])

    async def _save(self, before: Intake, after: Intake, more: Sequence[Change]) -> Intake:
        row = msgspec.structs.replace(_row(after), etag=before.version)
        version, *_ = await self._store.write(LEDGER_TABLE, [Change("replace", row), *more])
        return msgspec.structs.replace(after, version=version)

    async def put_off(self, intake: Intake, due: float) -> None:
        """Its next ticket shows then. It has come further, so those that died before count no longer."""
        await self._store.write(LEDGER_TABLE, [Change("upsert", _marker(intake, due, 0))])

    async def waiting(self) -> list[Pending]:
        """All that have work left."""
        return list(map(_pending, await self._store.query(LEDGER_TABLE, _MARKERS)))

    async def pending(self, batch_id: str) -> Pending | None:
        """None where no work is left."""
        row = await self._store.get_row(LEDGER_TABLE, _MARKERS, batch_id)
        return None if row is None else _pending(row)

    async def give_ticket(self, pending: Pending, due: float) -> bool:
        """Marks it as having a new ticket; False when somebody else has just done so."""
        values: dict[str, Value] = {"due": due, "reissued": pending.reissued + 1}
        try:
            await self._store.write(LEDGER_TABLE, [Change("merge", Row(_MARKERS, pending.id, values, pending.version))])
        except StorageConflict:
            return False
        return True

    async def done(self, batch_id: str) -> None:
        """No work is left."""
        await self._store.write(LEDGER_TABLE, [Change("delete", Row(_MARKERS, batch_id))])


def _row(intake: Intake) -> Row:
    told = msgspec.json.encode(msgspec.structs.replace(intake, version="")).decode()
    return Row(batch_key(intake.id), "intake", {"created": intake.created, "owed": intake.open, "intake": told})


def _marker(intake: Intake, due: float, reissued: int) -> Row:
    return Row(_MARKERS, intake.id, {"created": intake.created, "due": due, "reissued": reissued, "owed": True})


def _pending(row: Row) -> Pending:
    values = row.values
    return Pending(row.key, float(values["created"]), float(values["due"]), int(values["reissued"]), row.etag)
