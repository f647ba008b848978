"""A batch: many mails accepted at once."""

from __future__ import annotations

import msgspec


class Batch(msgspec.Struct, frozen=True):
    """`slices` says how many slices each account has of it; `refused` how many lines were refused at the door (`?partial=true`)."""

    id: str
    caller: str
    created: float
    slices: dict[str, int]
    refused: int = 0


class RefusedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line that was refused when the batch was accepted. `line` counts from 1."""

    line: int
    code: str
    detail: str
    id: str | None = None
    next_step: str | None = None
