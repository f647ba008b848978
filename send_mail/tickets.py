"""A lane's tickets: at most WINDOW of them are alive, for its oldest owed slices; whoever settles a slice gives the next one its ticket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mailroom.errors import StorageDown
from mailroom.model.slice import Mail, Slice
from mailroom.ports import Store
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.ledger_rows import Marker
from mailroom.storage.outbox import StoredOutbox

KNOWN_FOR = 20.0  # seconds for which a batch that was cancelled elsewhere may go on giving tickets here
KNOWN_BATCHES = 10_000
WINDOW = 4  # tickets of one lane alive at a time


class Settled(NamedTuple):
    """`ticket`: ours is to have one, if it is still owed. `heir` has our place by the same write, if one waited; `full` says that the lane
    has all the tickets that it may have or needs.
    """

    slice_: Slice
    ticket: bool
    heir: Marker | None
    full: bool


@dataclass(frozen=True, slots=True)
class Tickets:
    store: Store
    ledger: StoredLedger
    outbox: StoredOutbox
    monotonic: Callable[[], float]
    _known: dict[str, tuple[float, bool]] = field(default_factory=dict)

    async def settle(self, ours: Slice, outcomes: dict[int, Mail]) -> Settled:
        """What became of our slice's mails; where it can be, with the next slice's ticket in one write.

        Who came by a ticket has its place. A mail that was sent without one, while it was asked for, may find the window full, and waits
        for its turn; or it has one already, that shows later.
        """
        oldest = await self._oldest(ours.ref.account)
        others = [marker for marker in oldest if marker.ref != ours.ref]
        waiting = [marker for marker in others if not marker.due]
        free = WINDOW - len(others) + len(waiting)
        places = free - ours.settled(outcomes).owed
        ticket = free > 0 and not any(self._shows_later(marker, ours) for marker in oldest)
        if waiting and places > 0:
            settled = await self.ledger.settle_and_pass(ours, outcomes, waiting[0], self._first(waiting[0]))
            if settled:
                return Settled(settled, ticket, waiting[0], places == 1 or len(waiting) == 1)
        return Settled(await self.ledger.settle(ours, outcomes, ticket=free > 0), ticket, None, not waiting or places <= 0)

    def _shows_later(self, marker: Marker, ours: Slice) -> bool:
        """Whether it is our own, and tells of a ticket; under a claim that began with the mail itself, or was renewed, it tells of that."""
        return marker.ref == ours.ref and marker.due > self.store.now() and marker.due != ours.claim_until

    async def give(self, settled: Settled, not_before: float) -> None:
        """The tickets that settling has made due; none shows before that time."""
        if settled.slice_.owed and settled.ticket:
            await self.outbox.nudge(settled.slice_.ref, max(settled.slice_.due, not_before))
        if settled.heir:
            await self.outbox.nudge(settled.heir.ref, max(self._first(settled.heir), not_before))
        if not settled.full:
            await self.refill(settled.slice_.ref.account)

    async def refill(self, account: str) -> None:
        """For the lane's oldest slices, those that have none."""
        for marker in await self.ledger.owed(account, WINDOW, self.committed):
            due = self._first(marker)
            if not marker.due and await self.ledger.give_ticket(marker, due, again=False):
                await self.outbox.nudge(marker.ref, due)

    async def put_off(self, found: Slice, due: float) -> None:
        """A new ticket before the old one is deleted; never mere success, for whoever holds the claim may be dead.

        The marker tells the sweep that this ticket lives; but under a claim it stays, so that the sweep counts the claimants that die.
        """
        await self.outbox.nudge(found.ref, due)
        if not found.claim:
            await self.ledger.put_off(found, due)

    async def committed(self, marker: Marker) -> bool:
        """Whether the batch that it is of was, and is not cancelled; known for a while, for this is asked of each of its slices."""
        unit = marker.ref.unit
        until, counts = self._known.get(unit, (0.0, False))
        return counts if until > self.monotonic() else await self.goes(unit)

    async def goes(self, unit: str) -> bool:
        """Whether that batch does, as it stands in storage by now."""
        batch = await self.ledger.batch(unit)
        if batch is None:
            return False
        if len(self._known) >= KNOWN_BATCHES:
            self._known.clear()
        self._known[unit] = self.monotonic() + KNOWN_FOR, not batch.cancelled
        return not batch.cancelled

    def is_cancelled(self, unit: str) -> bool:
        """As far as is known here, without a look."""
        return not self._known.get(unit, (0.0, True))[1]

    async def _oldest(self, account: str) -> list[Marker]:
        """The lane's oldest owed slices, with ours. Without them settling goes on; the sweep will see to their tickets."""
        try:
            return await self.ledger.owed(account, WINDOW + 1, self.committed)
        except StorageDown:
            return []

    def _first(self, marker: Marker) -> float:
        """When its first ticket shows."""
        return max(marker.created, self.store.now()) if marker.scheduled else self.store.now()
