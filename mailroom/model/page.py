"""What an inbox gives: pages of new mail."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Arrival(msgspec.Struct, frozen=True):
    """A mail in the folder, by its immutable id."""

    id: str
    received: datetime


class Page(msgspec.Struct, frozen=True):
    """`next` is the link to go on from, opaque; `last` says that nothing more waits now, so `next` is where the next sync starts."""

    arrivals: tuple[Arrival, ...]
    next: str
    last: bool
