"""What became of a mail or a batch, for the caller who made it and nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mailroom.errors import NotFound, StorageDown
from mailroom.events import record
from mailroom.model.account import Account
from mailroom.model.batch import Batch, RefusedLine
from mailroom.model.intake import Intake
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.model.slice import STATUSES, Mail, Ref, Slice
from mailroom.ports import Store
from mailroom.storage.intakes import StoredIntakes
from mailroom.storage.keys import StoredKeys
from mailroom.storage.ledger import StoredLedger
from send_mail import failures, intake, schedule
from send_mail.accept import refused_name
from send_mail.count import Count

_UNIT = re.compile(r"[A-Za-z0-9]{1,100}")  # what callers ask for becomes a table key, which may not hold everything
_PLACE = re.compile(rf"({_UNIT.pattern})\.([0-9]{{1,9}})\.([0-9]{{1,9}})\.([0-9]{{1,9}})")


@dataclass(frozen=True, slots=True)
class Status:
    store: Store
    ledger: StoredLedger
    keys: StoredKeys
    accounts: Mapping[str, Account] = field(default_factory=dict)

    async def message(self, name: str, caller: str) -> dict[str, Any]:
        """Raises NotFound, also for what another caller made."""
        where = await self.where(name, caller)
        slice_ = await self.ledger.read(where[0]) if where else None
        if where is None or slice_ is None or slice_.caller != caller or where[1] >= len(slice_.mails) or not await self._counts(slice_):
            raise NotFound("message_unknown", f"There is no message {name!r} of yours.", "Use the id that the accepting answer gave.")
        return mail_view(slice_, slice_.mails[where[1]])

    async def header(self, batch_id: str, caller: str) -> Batch:
        """Raises NotFound, also for what another caller made."""
        batch = await self.ledger.batch(batch_id) if _UNIT.fullmatch(batch_id) else None
        if batch is None or batch.caller != caller:
            raise NotFound("batch_unknown", f"There is no batch {batch_id!r} of yours.", "Use the id that the accepting answer gave.")
        return batch

    async def batch(self, batch_id: str, caller: str) -> dict[str, Any]:
        """Raises NotFound, also for what another caller made."""
        try:
            batch = await self.header(batch_id, caller)
        except NotFound:
            coming = await self.coming(batch_id, caller)
            if coming is None:
                raise
            return intake.view(coming)
        count = Count(batch)
        count.add_refused(await self._refused_lines(batch))
        async for page in self.ledger.pages(batch):
            count.add(page)
        return {
            "id": batch.id,
            "status": "cancelled" if batch.cancelled else "accepted",
            "counts": {status: count.by_status[status] for status in STATUSES},
            **await self._times(batch, count),
            "refused": list(map(_refused, count.refused)),
        }

    async def coming(self, batch_id: str, caller: str) -> Intake | None:
        """A batch of theirs that is on its way in, or was refused on that way."""
        found = await StoredIntakes(self.store).read(batch_id) if _UNIT.fullmatch(batch_id) else None
        return found if found is not None and found.caller == caller else None

    async def _times(self, batch: Batch, count: Count) -> dict[str, Any]:
        """When it goes, how fast it has gone so far, and when it should be done; the last two while there is something to do.

        What was accepted before it goes before it.
        """
        now, start = self.store.now(), max(batch.send_at, batch.accepted)
        found: dict[str, Any] = {}
        if batch.send_at:
            found["send_at"] = schedule.shown(batch.send_at)
        if count.owed and batch.accepted:
            refs = [Ref(account, batch.id) for account in count.owed.accounts if start <= now]
            for ref, mails in zip(refs, await asyncio.gather(*(self.ledger.ahead(ref, start) for ref in refs)), strict=True):
                count.owed.add(ref.account, mails, mails)
            found["eta"] = schedule.shown(max(now, start) + count.owed.seconds(self.accounts))
            if now > start and not batch.cancelled:
                found["rate"] = round(count.done * 60 / (now - start), 1)
        return found

    async def failures(self, batch_id: str, caller: str) -> list[dict[str, Any]]:
        """Every mail of the batch that did not go and will not by itself. Raises NotFound."""
        batch = await self.header(batch_id, caller)
        found = [view async for page in self.ledger.pages(batch) for slice_ in page for view in failures.of_slice(slice_)]
        return found + failures.of_lines(await self._refused_lines(batch))

    async def anywhere(self, name: str, callers: Sequence[str], accounts: Iterable[str]) -> tuple[Slice, int]:
        """For who may decide: a mail by its id in the words of one of these callers, or by the name that we gave it. Raises NotFound."""
        places = [await self.where(name, caller) for caller in callers]
        if _UNIT.fullmatch(name):
            places += [(Ref(account, name), 0) for account in accounts]
        for ref, at in filter(None, places):
            slice_ = await self.ledger.read(ref)
            if slice_ is not None and at < len(slice_.mails) and await self._counts(slice_):
                return slice_, at
        step = "Use the id that the accepting answer gave, with ?caller=CLIENT_ID where another application chose it."
        raise NotFound("message_unknown", f"There is no message {name!r}.", step)

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

    async def _refused_lines(self, batch: Batch) -> list[RefusedLine]:
        body = await self.store.get_blob(OUTBOX_CONTAINER, refused_name(batch.id)) if batch.refused else None
        return msgspec.json.decode(body, type=list[RefusedLine]) if body else []

    async def where(self, name: str, caller: str) -> tuple[Ref, int] | None:
        """The slice and the place in it of a mail that this caller named, or that its batch or ourselves have named."""
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
        "due": schedule.shown(mail.due) if mail.due and mail.status in ("pending", "in_doubt") else None,
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
