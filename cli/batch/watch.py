"""Follows a batch until nothing of it is owed any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cli.api import Api
from cli.batch import text
from cli.progress import Progress
from mailroom.errors import MailroomError

OWED = ("pending", "sending", "in_doubt")
QUICK, SLOW = 2.0, 15.0  # seconds between two looks: counting a large batch is work for the functions, too
LARGE = 2000
PATIENCE = 20  # looks in a row without an answer


async def until_done(
    api: Api, batch_id: str, progress: Progress, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> dict[str, Any]:
    """Its last view. Raises what the API answers, and NoAnswer when nothing was heard for long."""
    failures = 0
    while True:
        try:
            view = await api.get(f"batches/{batch_id}")
            failures = 0
        except MailroomError as error:
            failures += 1
            if not error.retryable or failures == PATIENCE:
                raise
            await sleep(SLOW)
            continue
        counts = view["counts"]
        total, owed = sum(counts.values()), sum(counts[status] for status in OWED)
        progress.show(total - owed, total, text.standing(view))
        if owed == 0:
            return view
        await sleep(QUICK if total <= LARGE else SLOW)
