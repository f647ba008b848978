"""What is owed and has no ticket alive gets a new one; what the platform poisoned unasked is cleared away or tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from mailroom.errors import BadInput, DeliveryInDoubt, LedgerNewer, MailroomError
from mailroom.events import record
from mailroom.model.row import Ticket
from mailroom.model.slice import OWED
from mailroom.storage.ledger import Marker
from mailroom.storage.outbox import Plain, read_ticket, was_told
from send_mail import parse
from send_mail.deliver import WINDOW, Deliver

REISSUES = 10
ABANDONED = 86400.0  # seconds after which a batch that was never committed is forgotten
ORPHANED = 3600.0  # seconds for which instances may still run with an accounts.toml of before or after
COMEBACKS = 3
PAGES = 8  # of 32 poisoned messages
AT_ONCE = 8

DIED = DeliveryInDoubt("tickets_died", f"{REISSUES} tickets died before the mail was settled.", "See the events, then requeue it.")
ENDED = f"It was tried {5 * (COMEBACKS + 1)} times, and each try failed or died. See the events for the reason, then put it back."
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
        async for ticket in self._tickets():
            await self._poisoned(ticket)

    async def _lane(self, account: str) -> None:
        timing, now = self.deliver.timing, self.deliver.store.now()
        for marker in await self.deliver.ledger.owed(account, 4 * WINDOW, self._counts):
            if marker.due and marker.due + timing.claim + timing.grace < now:
                await self._overdue(marker)
        await self.deliver.refill(account)

    async def _counts(self, marker: Marker) -> bool:
        if await self.deliver.committed(marker):
            return True
        if marker.created + ABANDONED < self.deliver.store.now():
            await self.deliver.ledger.forget_unit(marker)
        return False

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

    async def _tickets(self) -> AsyncIterator[Ticket]:
        for _ in range(PAGES):
            tickets = await self.deliver.outbox.poisoned()
            for ticket in tickets:
                yield ticket
            if len(tickets) < 32:
                return

    async def _poisoned(self, ticket: Ticket) -> None:
        """Five kills poison a ticket that never failed, and so does storage that was down five times. What was told stays, for a person."""
        ref = read_ticket(ticket.body)
        if ref is None:
            await self._message(ticket)
            return
        try:
            found = await self.deliver.ledger.read(ref)
        except LedgerNewer as newer:
            record("ledger.newer", warn=True, account=ref.account, unit=ref.unit, detail=newer.detail)
            found = None
        if found is not None and found.owed:
            await self.deliver.outbox.nudge(ref, found.due)
        await self.deliver.outbox.drop_poisoned(ticket)

    async def _message(self, ticket: Ticket) -> None:
        """A mail that another application put on the queue. With an id of its own it is the same mail however often it comes."""
        outbox = self.deliver.outbox
        if was_told(ticket.body):
            return
        plain = Plain.read(ticket.body)
        try:
            message = parse.message(plain.body)
        except BadInput:  # the host itself put it aside: it is no base64
            return
        if not message.id:
            done = await outbox.put_aside(plain.body, f"id_missing: {UNNAMED}")
        elif plain.again < COMEBACKS:
            record("queue.retried", warn=True, id=message.id, times=plain.again + 1)
            done = await outbox.put_again(plain)
        else:
            done = await outbox.put_aside(plain.body, f"tries_ended: {ENDED}")
        if done:
            await outbox.drop_poisoned(ticket)
