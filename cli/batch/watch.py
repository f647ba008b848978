"""Follows a batch: until it is accepted, and until nothing of it is owed any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cli.api import Answered, Api
from cli.batch import text
from cli.progress import Progress
from mailroom.errors import MailroomError

OWED = ("pending", "sending", "in_doubt")
QUICK, SLOW = 2.0, 15.0  # seconds between two looks: counting a large batch is work for the functions, too
LARGE = 2000
PATIENCE = 20  # looks in a row without an answer


def path(batch_id: str) -> str:
    """Of the API."""
    return f"batches/{quote(batch_id, safe='')}"


@dataclass(frozen=True, slots=True)
class Watch:
    api: Api
    progress: Progress
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def until_accepted(self, batch_id: str) -> dict[str, Any]:
        """Its view with counts: what was uploaded is read in the background. Raises Answered where it is refused."""
        while True:
            view = await self._look(batch_id)
            if "counts" in view:
                return view
            if view.get("status") != "accepting":
                told = (str(view.get(name, "")) for name in ("code", "detail", "next_step"))
                raise Answered(400, *told)
            self.progress.show(view["bytes"], view["of_bytes"], f"{view['lines']} lines read")
            await self.sleep(QUICK)

    async def until_done(self, batch_id: str) -> dict[str, Any]:
        """Its last view."""
        while True:
            view = await self.until_accepted(batch_id)
            total, owed = sum(view["counts"].values()), sum(view["counts"][status] for status in OWED)
            self.progress.show(total - owed, total, text.standing(view))
            if owed == 0:
                return view
            await self.sleep(QUICK if total <= LARGE else SLOW)

    async def _look(self, batch_id: str) -> dict[str, Any]:
        """Raises what the API answers, and NoAnswer when nothing was heard for long."""
        for _ in range(PATIENCE - 1):
            try:
                return await self.api.get(path(batch_id))
            except MailroomError as error:
                if not error.retryable:
                    raise
            await self.sleep(SLOW)
        return await self.api.get(path(batch_id))
