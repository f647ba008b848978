"""Waiting for what another task or process will do, a bounded time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 20.0


async def until(what: Callable[[], Any | Awaitable[Any]], patience: float = PATIENCE) -> Any:
    """What the call gives as soon as that is something; TimeoutError when patience is over."""
    async with asyncio.timeout(patience):
        while True:
            found = what()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)
