"""What is done once in a while, by whichever instance the timer runs on. Table MailCursors, partition `~pace`: no account's name."""

from __future__ import annotations

from dataclasses import dataclass

from mailroom.model.places import CURSORS_TABLE
from mailroom.model.row import Change, Row
from mailroom.ports import Store

PARTITION = "~pace"


@dataclass(frozen=True, slots=True)
class Pace:
    store: Store

    async def due(self, what: str, every: float) -> str | None:
        """Where it was left off, "" for the beginning; None as long as it was done less than `every` seconds ago."""
        row = await self.store.get_row(CURSORS_TABLE, PARTITION, what)
        if row is None:
            return ""
        left_off = str(row.values["left_off"])
        return left_off if left_off or float(row.values["done"]) + every <= self.store.now() else None

    async def done(self, what: str, left_off: str = "") -> None:
        """Done, or to go on from `left_off` the next time."""
        row = Row(PARTITION, what, {"done": self.store.now(), "left_off": left_off})
        await self.store.write(CURSORS_TABLE, [Change("upsert", row)])
