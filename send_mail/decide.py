"""What a person decides of mails that were accepted: to cancel a batch, to try its refused mails once more, and what a held mail is.

`mailroom.model.decisions` says what may be decided. Each decision is written by ETag beside whoever is at work on the slice: who holds
a claim settles only the mails that it took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from mailroom.errors import BadInput, Conflict, StorageDown
from mailroom.events import record
from mailroom.model import decisions
from mailroom.model.batch import Batch
from mailroom.model.decisions import Decision
from mailroom.model.matter import Matter, standing
from mailroom.model.slice import OWED, Ref, Slice
from send_mail.deliver import Deliver
from send_mail.outcome import CANCELLED

AT_ONCE = 50  # slices with their markers: the 100 changes that a table transaction takes
TRIES = 8


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decision: Decision = msgspec.field(name="as")


def decided(body: bytes) -> Decision:
    """What `{"as": …}` says. Raises BadInput."""
    try:
        return msgspec.json.decode(body, type=_Body).decision
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what = f"The body says nothing that can be decided: {error}."
        raise BadInput("decision_invalid", what, 'Send {"as": "sent"}, {"as": "resend"} or {"as": "refused"}.', field="as") from error


@dataclass(frozen=True, slots=True)
class Decide:
    deliver: Deliver

    async def cancel(self, batch: Batch) -> None:
        """What is being sent goes on; everything else of the batch does not go, now or later. Twice is once."""
        await self.deliver.ledger.mark_batch(batch.id, cancelled=True)
        await self.deliver.tickets.goes(batch.id)
        count = await self.cancel_slices(batch)
        record("batch.cancelled", batch=batch.id, mails=count)
        for account in batch.slices:  # tickets of what was cancelled are for nothing, so the lane's next ones are given here
            await self.deliver.tickets.refill(account)

    async def cancel_slices(self, batch: Batch) -> int:
        return await self._each(batch, lambda found: decisions.cancelled(found, CANCELLED))

    async def retry(self, batch: Batch) -> int:
        """Mails that were refused are tried once more, each once; how many. Raises Conflict."""
        decisions.check_alive(batch)
        await self._keep(batch)
        count = await self._each(batch, self._retried)
        record("batch.retried", batch=batch.id, mails=count)
        for account in batch.slices:
            await self.deliver.tickets.refill(account)
        return count

    def _retried(self, found: Slice) -> Slice:
        deliver = self.deliver
        return decisions.retried(found, deliver.accounts.get(found.ref.account), deliver.timing, deliver.store.now())

    async def resolve(self, ref: Ref, at: int, decision: Decision, who: str) -> Slice:
        """What a mail is that is held or in doubt: `who` says it. Raises Conflict where it may not be said."""
        for _ in range(TRIES):
            found = await self.deliver.ledger.read(ref)
            if found is None:
                raise Conflict("not_held", "The mail is gone.", "It was settled, and kept for `keep_days`.")
            matter = self._matter(found, at)
            after = decisions.resolved(matter, decision, who)
            if after.mails[at].status in OWED:
                await self._check_there(matter)
            if await self.deliver.ledger.amend([(found, after)]):
                record("mail.resolved", account=ref.account, id=matter.mail.id, unit=ref.unit, decision=decision, by=who)
                await self.deliver.tickets.refill(ref.account)
                return after
        raise StorageDown("storage_busy", "The mail was changed by others again and again.")

    def _matter(self, found: Slice, at: int) -> Matter:
        timing, now = self.deliver.timing, self.deliver.store.now()
        return Matter(standing(found, now, timing.grace), at, self.deliver.accounts.get(found.ref.account), timing, now)

    async def _check_there(self, matter: Matter) -> None:
        found = matter.found
        body = await self.deliver.outbox.get(found.ref) is not None
        batch = await self.deliver.ledger.batch(found.ref.unit) if found.batch else None
        decisions.check_there(matter.mail, batch, body=body)
        if batch is not None:
            await self._keep(batch)

    async def _keep(self, batch: Batch) -> None:
        """The batch is there for as long as its mails: what is tried again is as young as what was just accepted."""
        await self.deliver.ledger.mark_batch(batch.id, created=max(batch.created, self.deliver.store.now()))

    async def _each(self, batch: Batch, change: Callable[[Slice], Slice]) -> int:
        """Changes every slice of the batch that the change changes; how many mails of it are others now."""
        count = 0
        async for page in self.deliver.ledger.pages(batch):
            found = [slice_ for slice_ in page if change(slice_).mails != slice_.mails]
            for at in range(0, len(found), AT_ONCE):
                count += await self._amend(found[at : at + AT_ONCE], change)
        return count

    async def _amend(self, part: Sequence[Slice], change: Callable[[Slice], Slice]) -> int:
        """All at once; where one of them has changed meanwhile, one by one as they stand then."""
        pairs = [(before, change(before)) for before in part]
        if await self.deliver.ledger.amend(pairs):
            return sum(map(_changed, pairs))
        return sum([await self._amend_one(before.ref, change) for before in part])

    async def _amend_one(self, ref: Ref, change: Callable[[Slice], Slice]) -> int:
        for _ in range(TRIES):
            before = await self.deliver.ledger.read(ref)
            pair = (before, change(before)) if before is not None else None
            if pair is None or not _changed(pair):
                return 0
            if await self.deliver.ledger.amend([pair]):
                return _changed(pair)
        raise StorageDown("storage_busy", "The batch's mails were changed by others again and again.")


def _changed(pair: tuple[Slice, Slice]) -> int:
    return sum(before.status != after.status for before, after in zip(pair[0].mails, pair[1].mails, strict=True))
