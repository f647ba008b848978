"""A worker that freezes between two steps, while the world goes on; and another process beside it on the same storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from mailroom.model.account import Traits
from tests.fakes import FakeStore
from tests.sending import Mortal, Room

ROOMY = Traits(asking=frozenset({"Mail.Read"}), in_flight=1000)  # permits keep the pace, and shall hide no gap in what the ledger does

_numbers = count()


class Frosty(Mortal):
    """A store whose n-th operation from now, 0 for the next one, takes so long that `meanwhile` happens before its answer is there."""

    def __init__(self, store: FakeStore, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store)
        self.meanwhile = meanwhile
        self.freezes_in: int | None = None

    def __getattr__(self, name: str) -> Any:
        real = super().__getattr__(name)
        if name == "now":
            return real

        async def operation(*args: Any, **options: Any) -> Any:
            frozen = self.freezes_in == 0
            self.freezes_in = None if frozen or self.freezes_in is None else self.freezes_in - 1
            found = await real(*args, **options)
            if frozen:
                await self.meanwhile()
            return found

        return operation


def frosty(room: Room, meanwhile: Callable[[], Awaitable[None]]) -> Frosty:
    """The room's store from now on."""
    store = Frosty(room.fake, meanwhile)
    room.store = store
    room.start()
    return store


def another(room: Room) -> Room:
    """Another process on the same storage, at the same provider."""
    other = Room.__new__(Room)
    other.__dict__.update(room.__dict__)
    other.start(f"other{next(_numbers)}")
    return other
