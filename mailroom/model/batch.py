"""A batch: many mails accepted at once."""

from __future__ import annotations

import msgspec


class Batch(msgspec.Struct, frozen=True):
    """`slices` says how many slices each account has of it; `refused` how many lines were refused at the door (`?partial=true`).

    Times are seconds since the epoch. It is kept for a while from `created` on, which is when the last of its mails is expected to go;
    `accepted` is when we took it. Nothing goes before `send_at`, 0 for at once. `cancelled` lets nothing go that is not going already.
    """

    id: str
    caller: str
    created: float
    slices: dict[str, int]
    refused: int = 0
    accepted: float = 0.0
    send_at: float = 0.0
    cancelled: bool = False


class RefusedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line that was refused when the batch was accepted. `line` counts from 1."""

    line: int
    code: str
    detail: str
    id: str | None = None
    next_step: str | None = None
