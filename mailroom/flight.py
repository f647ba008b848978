"""Single flight: one piece of work for all who want its outcome at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    def __init__(self) -> None:
        self._flying: dict[Hashable, asyncio.Task[T]] = {}

    async def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the work that is under way for `key` comes to, or else that of a new one. Its error goes to all who wait."""
        task = self._flying.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._flying[key] = task
            task.add_done_callback(lambda _: self._flying.pop(key))
        return await asyncio.shield(task)  # who is cancelled does not take the others' outcome along
