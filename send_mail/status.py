"""What became of a mail or a batch, for the caller who made it and nobody else."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from mailroom.errors import NotFound, StorageDown
from mailroom.events import record
from mailroom.model.batch import Batch, RefusedLine
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.model.slice import STATUSES, Mail, Ref, Slice
from mailroom.ports import Store
from mailroom.storage.keys import StoredKeys
from mailroom.storage.ledger import StoredLedger
from send_mail import schedule
from send_mail.accept import refused_name

_UNIT = re.compile(r"[A-Za-z0-9]{1,100}")  # what callers ask for becomes a table key, which may not hold everything
_PLACE = re.compile(rf"({_UNIT.pattern})\.([0-9]{{1,9}})\.([0-9]{{1,9}})\.([0-9]{{1,9}})")


@dataclass(frozen=True, slots=True)
class Status:
    store: Store
    ledger: StoredLedger
    keys: StoredKeys

    async def message(self, name: str, caller: str) -> dict[str, Any]:
        """Raises NotFound, also for what another caller made."""
        where = await self._where(name, caller)
        slice_ = await self.ledger.read(where[0]) if where else None
        if where is None or slice_ is None or slice_.caller != caller or where[1] >= len(slice_.mails) or not await self._counts(slice_):
            raise NotFound("message_unknown", f"There is no message {name!r} of yours.", "Use the id that the accepting answer gave.")
        return mail_view(slice_, slice_.mails[where[1]])

    async def batch(self, batch_id: str, caller: str) -> dict[str, Any]:
        """Raises NotFound, also for what another caller made."""
        batch = await self.ledger.batch(batch_id) if _UNIT.fullmatch(batch_id) else None
        if batch is None or batch.caller != caller:
            raise NotFound("batch_unknown", f"There is no batch {batch_id!r} of yours.", "Use the id that the accepting answer gave.")
        mails = [mail for slice_ in await self.ledger.slices(batch) for mail in slice_.mails]
        counts = Counter(mail.status for mail in mails)
        counts["refused"] += batch.refused
        refused = [_refused(mail) for mail in mails if mail.status == "refused"] + await self._refused_lines(batch)
        scheduled = {"send_at": schedule.shown(batch.send_at)} if batch.send_at else {}
        return {
            "id": batch.id,
            "counts": {status: counts[status] for status in STATUSES},
            **scheduled,
            "refused": sorted(refused, key=lambda one: one["line"]),
        }

    async def accepted(self, batch: Batch) -> dict[str, Any]:
        """As `batch`, for the answer that accepts it: where storage fails by then, what is known all the same.

        Who is told 503 of what was accepted would send it again.
        """
        try:
            return await self.batch(batch.id, batch.caller)
        except StorageDown as error:
            record("accepted.unread", warn=True, batch=batch.id, code=error.code, detail=error.detail)
            detail = "The batch was accepted; storage failed while its mails were counted."
            return {"id": batch.id, "code": error.code, "detail": detail, "next_step": f"Ask GET /api/batches/{batch.id} a little later."}

    async def _counts(self, slice_: Slice) -> bool:
        """A batch's mails are there before its commit, but nothing of it is accepted."""
        return not slice_.batch or await self.ledger.batch(slice_.ref.unit) is not None

    async def _refused_lines(self, batch: Batch) -> list[dict[str, Any]]:
        body = await self.store.get_blob(OUTBOX_CONTAINER, refused_name(batch.id)) if batch.refused else None
        lines = msgspec.json.decode(body, type=list[RefusedLine]) if body else []
        return [_refused(line) for line in lines]

    async def _where(self, name: str, caller: str) -> tuple[Ref, int] | None:
        entry = await self.keys.find("id", caller, name)
        if entry is not None:
            return Ref(entry.account, entry.unit, entry.slice), entry.index
        place = _PLACE.fullmatch(name)
        if place is None:
            return None
        unit, order, number, at = place[1], int(place[2]), int(place[3]), int(place[4])
        batch = await self.ledger.batch(unit)
        if batch is None or order >= len(batch.slices):
            return None
        return Ref(list(batch.slices)[order], unit, number), at


def mail_view(slice_: Slice, mail: Mail) -> dict[str, Any]:
    """The JSON of one mail; what is not known is left out."""
    view = {
        "id": mail.id,
        "status": mail.status,
        "account": slice_.ref.account,
        "batch": slice_.ref.unit if slice_.batch else None,
        "line": mail.line,
        "attempts": mail.attempt,
        "path": mail.path,
        "provider_id": mail.provider_id,
        "request_id": mail.request_id,
        "note": mail.note,
        "code": mail.code,
        "detail": mail.detail,
        "next_step": mail.next_step,
    }
    return {name: value for name, value in view.items() if value is not None}


def _refused(one: Mail | RefusedLine) -> dict[str, Any]:
    return {"id": one.id, "line": one.line, "code": one.code, "detail": one.detail, "next_step": one.next_step}
