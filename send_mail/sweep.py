"""What is owed and has no ticket alive gets a new one; what the platform poisoned unasked is cleared away or tried again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mailroom.errors import BadInput, DeliveryInDoubt, LedgerNewer, MailroomError
from mailroom.events import record
from mailroom.model.row import Ticket
from mailroom.model.slice import OWED
from mailroom.storage.intakes import StoredIntakes
from mailroom.storage.ledger_rows import Marker
from mailroom.storage.outbox import Plain, read_intake, read_ticket, was_told
from send_mail import parse
from send_mail.decide import Decide
from send_mail.deliver import Deliver
from send_mail.tickets import WINDOW

REISSUES = 10
ABANDONED = 86400.0  # seconds after which a batch that was never committed is forgotten
ORPHANED = 3600.0  # seconds for which instances may still run with an accounts.toml of before or after
COMEBACKS = 3
PAGE, PAGES = 32, 8  # poisoned messages at a time, and how often
AT_ONCE = 8

DIED = DeliveryInDoubt("tickets_died", f"{REISSUES} tickets died before the mail was settled.", "See the events, then requeue it.")
ENDED = f"It was tried {5 * (COMEBACKS + 1)} times, and each try failed or died. See the events for the reason, then put it back."
BARE = "not_base64: The Functions host reads base64 alone, see docs/queue.md. And: "
UNNAMED = (
    "It was tried five times, and each try failed or died. It has no id to be known again by, so nobody knows whether it was sent. "
    "Look into Sent Items, then put it back; with an id this happens by itself."
)


@dataclass(frozen=True, slots=True)
class Sweep:
    deliver: Deliver

    async def run(self) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        sending = {account.name for account in self.deliver.accounts.values() if account.send}

        async def lane(account: str) -> None:
            async with gate:
                await (self._lane(account) if account in sending else self._orphans(account))

        gone = set(await self.deliver.ledger.accounts()) - sending
        await asyncio.gather(*map(lane, sorted(sending | gone)))
        await self._poison()

    async def _lane(self, account: str) -> None:
        timing, now = self.deliver.timing, self.deliver.store.now()
        for marker in await self.deliver.ledger.owed(account, 4 * WINDOW, self._counts):
            if marker.due and marker.due + timing.claim + timing.grace < now:
                await self._overdue(marker)
        await self.deliver.tickets.refill(account)

    async def _counts(self, marker: Marker) -> bool:
        if await self.deliver.tickets.committed(marker):
            return True
        batch = await self.deliver.ledger.batch(marker.ref.unit)
        if batch is not None and batch.cancelled:  # by somebody who was cut off before all of it was
            await Decide(self.deliver).cancel_slices(batch)
            await self._ask(marker)
            return False
        if marker.created + ABANDONED < self.deliver.store.now():
            await self.deliver.ledger.forget_unit(marker)
        return False

    async def _ask(self, marker: Marker) -> None:
        """What may have gone before its batch was cancelled stays owed until it was asked for: it needs a ticket, too."""
        if await self.deliver.ledger.give_ticket(marker, self.deliver.store.now(), again=False):
            await self.deliver.outbox.nudge(marker.ref, 0.0)

    async def _orphans(self, account: str) -> None:
        """Nobody sends for an account that accounts.toml has no longer: a person decides."""
        why = DeliveryInDoubt("account_removed", f"No account {account!r} sends any more.", "Restore it in accounts.toml, then requeue.")
        for marker in await self.deliver.ledger.owed(account, 4 * WINDOW, self._counts):
            if marker.created + ORPHANED < self.deliver.store.now():
                await self._hold(marker, why)

    async def _overdue(self, marker: Marker) -> None:
        if marker.reissued >= REISSUES:
            await self._hold(marker, DIED)
        elif await self.deliver.ledger.give_ticket(marker, self.deliver.store.now(), again=True):
            record("ticket.reissued", warn=True, account=marker.ref.account, unit=marker.ref.unit, times=marker.reissued + 1)
            await self.deliver.outbox.nudge(marker.ref, 0.0)

    async def _hold(self, marker: Marker, why: MailroomError) -> None:
        """A person decides, once whoever may be at work on it is done or dead."""
        ledger, store = self.deliver.ledger, self.deliver.store
        try:
            found = await ledger.read(marker.ref)
        except LedgerNewer as newer:
            record("ledger.newer", warn=True, account=marker.ref.account, unit=marker.ref.unit, detail=newer.detail)
            return
        if found is None:
            await ledger.forget(marker)
            return
        if found.claim_until > store.now():
            return
        found = found.lapsed(store.now(), self.deliver.timing.grace)
        claimed = await ledger.claim(found, self.deliver.new_nonce(), store.now() + self.deliver.timing.claim)
        if claimed is not None:
            await ledger.settle(claimed, {at: mail.ended("held", why) for at, mail in enumerate(found.mails) if mail.status in OWED})

    async def _poison(self) -> None:
        """What waits for a person goes behind the rest where it fills all that one run looks at, so that the next one gets further."""
        waiting: dict[str, Ticket] = {}
        for _ in range(PAGES):
            tickets = await self.deliver.outbox.poisoned(PAGE)
            waiting |= {ticket.id: ticket for ticket in tickets if not await self._poisoned(ticket)}
            if len(tickets) < PAGE:
                return
        for ticket in waiting.values():
            await self.deliver.outbox.put_behind(ticket)

    async def _poisoned(self, ticket: Ticket) -> bool:
        """Five kills poison a ticket that never failed, and so does storage that was down five times. What was told stays, for a person.

        Whether it is gone from the queue, or another in its place.
        """
        ref = read_ticket(ticket.body)
        if ref is None:
            batch_id = read_intake(ticket.body)
            return await (self._intake(batch_id, ticket) if batch_id else self._message(ticket))
        try:
            found = await self.deliver.ledger.read(ref)
        except LedgerNewer as newer:
            record("ledger.newer", warn=True, account=ref.account, unit=ref.unit, detail=newer.detail)
            found = None
        if found is not None and found.owed:
            await self.deliver.outbox.nudge(ref, found.due)
        await self.deliver.outbox.drop_poisoned(ticket)
        return True

    async def _intake(self, batch_id: str, ticket: Ticket) -> bool:
        """A batch on its way in goes on at once, as long as it may have new tickets; send_mail.take_in ends it after that."""
        intakes, now = StoredIntakes(self.deliver.store), self.deliver.store.now()
        pending = await intakes.pending(batch_id)
        if pending is not None and pending.reissued < REISSUES and await intakes.give_ticket(pending, now):
            record("intake.revived", warn=True, batch=batch_id, times=pending.reissued + 1)
            await self.deliver.outbox.nudge_intake(batch_id)
        await self.deliver.outbox.drop_poisoned(ticket)
        return True

    async def _message(self, ticket: Ticket) -> bool:
        """A mail that another application put on the queue. With an id of its own it is the same mail however often it comes.

        The host itself puts aside, without a word, what is no base64: no function has ever seen that, so it is tried as what it says.
        """
        outbox = self.deliver.outbox
        if was_told(ticket.body):
            return False
        plain = Plain.read(ticket.body)
        try:
            message = parse.message(plain.body)
        except BadInput as error:
            done = await outbox.put_aside(ticket.body, f"{BARE if ticket.bare else ''}{error}")
            return await self._moved(ticket, done)
        if not (message.id or ticket.bare):
            done = await outbox.put_aside(plain.body, f"id_missing: {UNNAMED}")
        elif plain.again < COMEBACKS:
            record("queue.retried", warn=True, id=message.id, times=plain.again + 1)
            done = await outbox.put_again(plain)
        else:
            done = await outbox.put_aside(plain.body, f"tries_ended: {ENDED}")
        return await self._moved(ticket, done)

    async def _moved(self, ticket: Ticket, done: bool) -> bool:
        if done:
            await self.deliver.outbox.drop_poisoned(ticket)
        return done
