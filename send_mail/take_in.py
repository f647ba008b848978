"""A batch out of a blob is accepted in the background, a bounded piece with each ticket, whoever is killed in the middle of it.

Bodies and rows of a portion come out the same whoever writes them, and none is ever written over; how far the batch has come is one row,
changed by ETag once the portion is written. Nothing counts before the last write, which makes it a batch. Where a line is bad, that write
never comes, and the rows are forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from mailroom.errors import BadInput, MailroomError, StorageConflict, StorageDown
from mailroom.events import record
from mailroom.model.batch import Batch, RefusedLine
from mailroom.model.intake import Fault, Intake
from mailroom.model.places import OUTBOX_CONTAINER
from mailroom.model.slice import Ref
from mailroom.storage.intakes import Pending, StoredIntakes
from mailroom.storage.keys import Entry
from send_mail import estimate
from send_mail.accept import RESUMABLE, Accept, refused_name
from send_mail.intake import CANCELLED
from send_mail.portions import LINES
from send_mail.reader import Read, Reader, forget_parts, refused_part
from send_mail.slicing import Slices, sliced
from send_mail.written import Otherwise, next_part, shares, write

SECONDS = 60.0  # of work with one ticket, a portion more or less
LONGEST = RESUMABLE - 3600.0  # ends well before its Idempotency-Key would begin another batch
REFUSED_MOST = 50_000  # lines that a partial batch may leave behind: more are a mistake in the file
SLICES_MOST = 100_000  # of one account: their numbers have five digits
NAMED_AT_ONCE = 500  # slices whose ids are entered in one go
LATE = 300.0  # seconds by which the ticket that follows is overdue
REISSUES = 10
TRIES = 20
LEFT = 3600.0  # seconds after which a marker without an intake is no one's

DIED = BadInput("intake_died", f"{REISSUES} tickets died before the batch was accepted.", "See the app's events, then send it again.")
TOO_SLOW = BadInput("intake_too_slow", f"The batch was not accepted within {LONGEST / 3600:g} hours.", "Split it into several.")
STOPPED = BadInput(CANCELLED, "The batch was cancelled before it was accepted.", "Nothing of it is sent.")
CHANGED = BadInput("intake_changed", "Accounts or limits were changed while the batch was accepted.", "Send it again.")


@dataclass(frozen=True, slots=True)
class TakeIn:
    """`allow` raises Forbidden for a client and an account that it may not use; a portion has at most `lines` lines."""

    accept: Accept
    intakes: StoredIntakes
    allow: Callable[[str, str], None]
    seconds: float = SECONDS
    lines: int = LINES
    monotonic: Callable[[], float] = time.monotonic

    async def work(self, batch_id: str) -> Intake | None:
        """One ticket. The intake as it stands afterwards; None where there is none, or somebody else has brought it further."""
        intake = await self.intakes.read(batch_id)
        if intake is None:
            record("ticket.without_intake", warn=True, batch=batch_id)
            return None
        try:
            intake, more = await self._work(intake)
        except StorageConflict:
            return None
        if more:
            await self.intakes.put_off(intake, self.accept.deliver.store.now())
            await self.accept.deliver.outbox.nudge_intake(intake.id)
        return intake

    async def _work(self, intake: Intake) -> tuple[Intake, bool]:
        """As many steps as there is time for; whether there is more to do."""
        reader: Reader | None = None
        ends, more = self.monotonic() + self.seconds, True
        while more:
            if intake.open and intake.created + LONGEST < self.accept.deliver.store.now():
                intake = await self._refuse(intake, TOO_SLOW)
            elif intake.state == "reading":
                intake, reader = await self._read(intake, reader)
            elif intake.state == "naming":
                intake = await self._name(intake)
            else:
                more = await self._clear(intake)
            if self.monotonic() >= ends:
                break
        return intake, more

    async def _read(self, intake: Intake, reader: Reader | None) -> tuple[Intake, Reader | None]:
        """A portion further, or refused."""
        try:
            reader = reader or await Reader.of(intake, self.accept, self.allow, self.lines)
            found = await reader.read(intake)
            slices = self._sliced(found)
            after = msgspec.structs.replace(found.after, shares=shares(intake.shares, slices))
            _check(after, found.refused)
        except StorageDown:
            raise
        except MailroomError as error:
            return await self._refuse(intake, error), None
        try:
            await write(self.accept.deliver, intake, found, slices, sharing=bool(reader.order.shared))
        except Otherwise:
            return await self._refuse(msgspec.structs.replace(intake, shares=after.shares), CHANGED), None
        if after.offset == after.size:
            after = msgspec.structs.replace(after, state="naming")
        return await self.intakes.save(intake, after), reader

    def _sliced(self, found: Read) -> Slices:
        intake, accounts = found.after, self.accept.deliver.accounts
        slices = sliced(intake.id, intake.caller, intake.start, found.good, accounts, due=intake.send_at, shares=intake.shares)
        for account, parts in slices.items():
            if parts[-1][0].ref.slice >= SLICES_MOST:
                what = f"Account {account!r} has more than {SLICES_MOST} slices of the batch."
                raise BadInput("batch_too_large", what, "Split it into several batches, or between several accounts.", field="blob")
        return slices

    async def _name(self, intake: Intake) -> Intake:
        """The ids of some slices are entered, so that their mails can be looked up; when all are, the batch is accepted."""
        found = next_part(intake, NAMED_AT_ONCE) if intake.ids else None
        if found is None:
            return await self._accept(intake)
        first, after = found
        await self.accept.keys.put(await self._entries(intake, first))
        return await self.intakes.save(intake, after)

    async def _entries(self, intake: Intake, first: Ref) -> list[Entry]:
        return [
            Entry("id", intake.caller, mail.id, intake.request, first.account, intake.id, intake.start, slice_.ref.slice, at)
            for slice_ in await self.accept.deliver.ledger.part(first, NAMED_AT_ONCE)
            for at, mail in enumerate(slice_.mails)
            if mail.id != mail.stamp
        ]

    async def _accept(self, intake: Intake) -> Intake:
        """The last write."""
        await self._put_refused(intake)
        after = msgspec.structs.replace(intake, state="accepted")
        batch = self._batch(intake)
        after = await self.intakes.accept(intake, after, batch)
        record("batch.accepted", batch=batch.id, mails=intake.mails, refused=batch.refused, slices=sum(batch.slices.values()))
        return after

    def _batch(self, intake: Intake) -> Batch:
        accounts = self.accept.deliver.accounts
        lanes = [estimate.lane(accounts[one.account], one.mails, one.recipients) for one in intake.shares if one.account in accounts]
        slices = {share.account: share.slices for share in intake.shares}
        ends = intake.start + max(lanes, default=0.0)
        return Batch(intake.id, intake.caller, ends, slices, intake.refused, accepted=intake.created, send_at=intake.send_at)

    async def _put_refused(self, intake: Intake) -> None:
        """The refused lines of all portions as one blob, which is where they are asked for."""
        if not intake.refused:
            return
        store, lines = self.accept.deliver.store, list[msgspec.Raw]()
        for chunk in range(intake.chunk):
            body = await store.get_blob(OUTBOX_CONTAINER, refused_part(intake.id, chunk))
            lines += msgspec.json.decode(body, type=list[msgspec.Raw]) if body else []
        await store.put_blob(OUTBOX_CONTAINER, refused_name(intake.id), msgspec.json.encode(lines))

    async def _refuse(self, intake: Intake, error: MailroomError) -> Intake:
        fault = Fault(error.code, error.detail, error.next_step, getattr(error, "field", ""), error.status)
        after = await self.intakes.save(intake, msgspec.structs.replace(intake, state="refused", fault=fault))
        record("batch.refused", batch=intake.id, code=error.code, detail=error.detail)
        return after

    async def _clear(self, intake: Intake) -> bool:
        """After the end: the first tickets of an accepted batch, or some of a refused one's rows; whether there is more."""
        deliver = self.accept.deliver
        if intake.state == "accepted":
            await asyncio.gather(*(deliver.tickets.refill(share.account) for share in intake.shares))
        elif any([await deliver.ledger.forget_some(Ref(share.account, intake.id), intake.start) for share in intake.shares]):
            return True
        await forget_parts(deliver.store, intake)
        await self.intakes.done(intake.id)
        return False

    async def cancel(self, batch_id: str, caller: str) -> Intake | None:
        """Nothing of it is accepted any more; None where that caller has no such intake, or it is a batch by now."""
        for _ in range(TRIES):
            intake = await self.intakes.read(batch_id)
            if intake is None or intake.caller != caller or intake.state == "accepted":
                return None
            if not intake.open or await self._given_up(intake, STOPPED):
                await self.accept.deliver.outbox.nudge_intake(batch_id)
                return await self.intakes.read(batch_id)
        raise StorageDown("storage_down", "The batch is brought further faster than it can be cancelled.", retry_after=1.0)

    async def revive(self) -> None:
        """Who has work left and whose ticket died gets a new one, a bounded number of times in a row."""
        for pending in await self.intakes.waiting():
            if pending.due + LATE < self.accept.deliver.store.now():
                await self._revive(pending)

    async def _revive(self, pending: Pending) -> None:
        intake, now = await self.intakes.read(pending.id), self.accept.deliver.store.now()
        if intake is None:
            if pending.created + LEFT < now:
                await self.intakes.done(pending.id)
            return
        if pending.reissued >= 2 * REISSUES:  # not even its rows can be forgotten: the sweep does that after a day
            await self.intakes.done(pending.id)
            return
        if pending.reissued >= REISSUES and intake.open and not await self._given_up(intake, DIED):
            return
        if await self.intakes.give_ticket(pending, now):
            record("intake.revived", warn=True, batch=pending.id, times=pending.reissued + 1)
            await self.accept.deliver.outbox.nudge_intake(pending.id)

    async def _given_up(self, intake: Intake, why: MailroomError) -> bool:
        """False when somebody has just brought it further."""
        try:
            await self._refuse(intake, why)
        except StorageConflict:
            return False
        return True


def _check(after: Intake, refused: Sequence[RefusedLine]) -> None:
    """Whether the batch as a whole is all right, by what is known of it so far. Raises BadInput."""
    mend = "Mend the file, then send it again."
    if after.refused > REFUSED_MOST:
        raise BadInput("lines_refused_too_many", f"{after.refused} of {after.line} lines are bad.", mend, field="blob")
    if after.offset < after.size or after.mails or (after.refused and after.partial):
        return
    if refused:  # nobody has the variable: it is the template that is wrong
        raise BadInput(refused[0].code, refused[0].detail, refused[0].next_step or "", field=f"line {refused[0].line}")
    if after.refused:
        raise BadInput("lines_refused_too_many", f"All {after.refused} lines are bad.", mend, field="blob")
    raise BadInput("batch_empty", "The upload has no message.", "Put one message, or one recipient, on each line.", field="blob")
