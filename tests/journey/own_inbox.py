"""The inbox of a town of one's own, and every event that came of it so far."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.journey.own_town import OwnTown, new_subject, opened
from tests.waiting import until

PATIENCE = 60.0


@dataclass(slots=True)
class Inbox:
    town: OwnTown
    events: list[dict[str, Any]] = field(default_factory=list)

    async def of(self, subject: str) -> list[dict[str, Any]]:
        self.events += map(opened, await self.town.take("mail-received"))
        return [event for event in self.events if event["data"]["subject"] == subject]

    async def event(self, subject: str) -> dict[str, Any]:
        """The mail's first one."""
        found: list[dict[str, Any]] = await until(lambda: self.of(subject), PATIENCE)
        return found[0]

    async def begins(self) -> None:
        """The first sync is over, so that mails are told of, and all that came meanwhile have been."""
        await until(self._tells, PATIENCE)
        await self.goes_on()

    async def goes_on(self) -> None:
        """Two mails more came and were told of, one after the other: whatever the inbox did before has been synced by now."""
        for subject in (new_subject(), new_subject()):
            await self.town.arrives(subject)
            await self.event(subject)

    async def _tells(self) -> bool:
        subject = new_subject()
        await self.town.arrives(subject)
        await asyncio.sleep(0.5)
        await self.of(subject)
        return bool(self.events)
