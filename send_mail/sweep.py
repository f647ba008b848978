"""What is owed and has no ticket alive gets a new one; what the platform poisoned unasked is cleared away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mailroom.errors import DeliveryInDoubt
from mailroom.events import record
from mailroom.model.row import Ticket
from mailroom.model.slice import OWED
from mailroom.storage.ledger import Marker
from mailroom.storage.outbox import read_ticket
from send_mail.deliver import WINDOW, Deliver

REISSUES = 10
ABANDONED = 86400.0  # seconds after which a batch that was never committed is forgotten
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Sweep:
    deliver: Deliver

    async def run(self) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def lane(account: str) -> None:
            async with gate:
                await self._lane(account)

        await asyncio.gather(*(lane(account.name) for account in self.deliver.accounts.values() if account.send))
        for ticket in await self.deliver.outbox.poisoned():
            await self._poisoned(ticket)

    async def _lane(self, account: str) -> None:
        timing, now = self.deliver.timing, self.deliver.store.now()
        for marker in await self.deliver.ledger.owed(account, top=4 * WINDOW):
            if marker.batch and marker.created + ABANDONED < now and not await self.deliver.committed(marker.ref.unit):
                await self.deliver.ledger.forget(marker)
            elif marker.due and marker.due + timing.claim + timing.grace < now:
                await self._overdue(marker)
        await self.deliver.refill(account)

    async def _overdue(self, marker: Marker) -> None:
        if marker.reissued >= REISSUES:
            await self._hold(marker)
        elif await self.deliver.ledger.give_ticket(marker, self.deliver.store.now(), again=True):
            record("ticket.reissued", warn=True, account=marker.ref.account, unit=marker.ref.unit, times=marker.reissued + 1)
            await self.deliver.outbox.nudge(marker.ref, 0.0)

    async def _hold(self, marker: Marker) -> None:
        """Ticket after ticket died with it: a person decides, once whoever may be at work on it is done or dead."""
        ledger, store = self.deliver.ledger, self.deliver.store
        found = await ledger.read(marker.ref)
        if found is None:
            await ledger.forget(marker)
            return
        if found.claim_until > store.now():
            return
        found = found.lapsed(store.now(), self.deliver.timing.grace)
        claimed = await ledger.claim(found, self.deliver.new_nonce(), store.now() + self.deliver.timing.claim)
        if claimed is None:
            return
        why = DeliveryInDoubt("tickets_died", f"{REISSUES} tickets died before the mail was settled.", "See the events, then requeue it.")
        await ledger.settle(claimed, {at: mail.ended("held", why) for at, mail in enumerate(found.mails) if mail.status in OWED})

    async def _poisoned(self, ticket: Ticket) -> None:
        """Five kills poison a ticket that never failed: the ledger knows better. What nobody can read stays, for a person."""
        ref = read_ticket(ticket.body)
        if ref is None:
            return
        found = await self.deliver.ledger.read(ref)
        if found is not None and found.owed:
            await self.deliver.outbox.nudge(ref, found.due)
        await self.deliver.outbox.drop_poisoned(ticket)
