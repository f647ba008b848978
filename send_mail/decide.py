"""What a person decides of mails that were accepted: to cancel a batch, to try its refused mails once more, and what a held mail is.

Each decision is written by ETag beside whoever is at work on the slice: who holds a claim settles only the mails that it took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from mailroom.errors import BadInput, Conflict, Refused, StorageDown
from mailroom.events import record
from mailroom.model.batch import Batch
from mailroom.model.slice import OWED, Mail, Ref, Slice
from send_mail.deliver import CANCELLED, Deliver

AT_ONCE = 50  # slices with their markers: the 100 changes that a table transaction takes
TRIES = 8
FINAL = frozenset({"body_missing", "resolved"})  # refusals that no second try changes

Decision = Literal["sent", "resend", "refused"]


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
        await self.deliver.goes(batch.id)
        count = await self.cancel_slices(batch)
        record("batch.cancelled", batch=batch.id, mails=count)
        for account in batch.slices:  # tickets of what was cancelled are for nothing, so the lane's next ones are given here
            await self.deliver.refill(account)

    async def cancel_slices(self, batch: Batch) -> int:
        return await self._each(batch, self._cancelled)

    def _cancelled(self, found: Slice) -> Slice:
        """Who is under a live claim is `sending`, and stays so."""
        found = found.lapsed(self.deliver.store.now(), self.deliver.timing.grace)
        return found.with_mails(mail.ended("cancelled", CANCELLED) if mail.status == "pending" else mail for mail in found.mails)

    async def retry(self, batch: Batch) -> int:
        """Mails that were refused are tried once more, each once; how many. Raises Conflict."""
        _check_alive(batch)
        await self._keep(batch)
        count = await self._each(batch, self._retried)
        record("batch.retried", batch=batch.id, mails=count)
        for account in batch.slices:
            await self.deliver.refill(account)
        return count

    def _retried(self, found: Slice) -> Slice:
        """One that may have gone when it was tried before is asked for before it goes."""
        return self._owed_again(found, lambda mail: _again(mail, retried=True) if _may_retry(mail) else mail)

    def _owed_again(self, found: Slice, change: Callable[[Mail], Mail]) -> Slice:
        """Giving up counts anew, where nothing of the slice is owed or may have gone: what is asked for was sent since it was created."""
        after = found.with_mails(map(change, found.mails))
        if found.owed or not after.owed or any(mail.doubt_since is not None for mail in after.mails if mail.status in OWED):
            return after
        return msgspec.structs.replace(after, created=self.deliver.store.now())

    async def resolve(self, ref: Ref, at: int, decision: Decision, who: str) -> Slice:
        """What a held mail is: `who` says it. Raises Conflict when it is not held."""
        for _ in range(TRIES):
            found = await self.deliver.ledger.read(ref)
            if found is None or found.mails[at].status != "held":
                status = found.mails[at].status if found else "gone"
                raise Conflict("not_held", f"The mail is {status}.", "Only a held mail waits for somebody to decide.")
            if decision == "resend":
                await self._check_sendable(found)
            after = self._resolved(found, at, decision, who)
            if await self.deliver.ledger.amend([(found, after)]):
                record("mail.resolved", account=ref.account, id=found.mails[at].id, unit=ref.unit, decision=decision, by=who)
                await self.deliver.refill(ref.account)
                return after
        raise StorageDown("storage_busy", "The mail was changed by others again and again.")

    def _resolved(self, found: Slice, at: int, decision: Decision, who: str) -> Slice:
        held = found.mails[at]
        if decision == "resend":
            again = _again(msgspec.structs.replace(held, doubt_since=None, note=f"resent as {who} decided"))
            return self._owed_again(found, lambda mail: again if mail is held else mail)
        if decision == "refused":
            why = Refused("resolved", f"{who} decided that the mail was not sent and shall not be.")
            decided = held.ended("refused", why)
        else:
            decided = msgspec.structs.replace(
                held, status="sent", doubt_since=None, code=None, detail=None, next_step=None, note=f"sent, as {who} decided"
            )
        return found.with_mails(decided if mail is held else mail for mail in found.mails)

    async def _check_sendable(self, found: Slice) -> None:
        if await self.deliver.outbox.get(found.ref) is None:
            raise Conflict(
                "body_missing", "The mail's body is no longer in storage.", "Decide that it was sent or refused, then send a new one."
            )
        batch = await self.deliver.ledger.batch(found.ref.unit) if found.batch else None
        if batch is not None:
            _check_alive(batch)
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


def _check_alive(batch: Batch) -> None:
    if batch.cancelled:
        raise Conflict("batch_cancelled", "The batch was cancelled.", "Send what shall go in another batch.")


def _may_retry(mail: Mail) -> bool:
    return mail.status == "refused" and not mail.retried and mail.code not in FINAL


def _again(mail: Mail, *, retried: bool | None = None) -> Mail:
    """Pending, with what is known of a doubt."""
    retried = mail.retried if retried is None else retried
    return msgspec.structs.replace(mail, status="pending", due=0.0, code=None, detail=None, next_step=None, retried=retried)


def _changed(pair: tuple[Slice, Slice]) -> int:
    return sum(before.status != after.status for before, after in zip(pair[0].mails, pair[1].mails, strict=True))
