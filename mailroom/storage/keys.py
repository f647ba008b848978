"""What callers call their mails: ids and Idempotency-Keys, each pointing to what it was first used for.

Table MailKeys. The partition is the caller's hash and two digits of the name's, so that a batch's own ids go in by the hundred.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.places import KEYS_TABLE
from mailroom.model.row import Change, Row
from mailroom.ports import Store

AT_ONCE = 16  # writes: a large batch's ids make hundreds, of which none shall wait so long for its connection that it gives up

Kind = Literal["id", "key"]


class Entry(msgspec.Struct, frozen=True):
    """`request` is the hash of the request that used the name first; `unit` what came of it, at `slice` and `index`."""

    kind: Kind
    caller: str
    name: str
    request: str
    account: str
    unit: str
    created: float
    slice: int = 0
    index: int = 0


class StoredKeys:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def first(self, entry: Entry, *, lifetime: float | None = None) -> Entry:
        """The entry that has this name: ours if it was free (or older than `lifetime`), else the one that was there first."""
        try:
            await self._store.write(KEYS_TABLE, [Change("insert", _row(entry))])
        except StorageConflict:
            row = await self._store.get_row(KEYS_TABLE, *_address(entry))
            if row is not None:
                found = _entry(entry, row)
                if lifetime is None or found.created + lifetime > entry.created:
                    return found
                await self._store.write(KEYS_TABLE, [Change("replace", _row(entry, row.etag))])
        return entry

    async def put(self, entries: Sequence[Entry]) -> None:
        """Many at once, of one caller; a name that was used before points here from now on."""
        rows = sorted(map(_row, entries), key=lambda row: row.partition)
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.partition)]
        room = asyncio.Semaphore(AT_ONCE)

        async def write(part: list[Row]) -> None:
            async with room:
                await self._store.write(KEYS_TABLE, [Change("upsert", row) for row in part])

        await asyncio.gather(*(write(part) for group in groups for part in _hundreds(group)))

    async def find(self, kind: Kind, caller: str, name: str) -> Entry | None:
        wanted = Entry(kind, caller, name, "", "", "", 0.0)
        row = await self._store.get_row(KEYS_TABLE, *_address(wanted))
        return None if row is None else _entry(wanted, row)


def _address(entry: Entry) -> tuple[str, str]:
    caller = hashlib.sha256(entry.caller.encode()).hexdigest()[:16]
    name = hashlib.sha256(entry.name.encode()).hexdigest()
    return f"{caller}{name[:2]}", f"{entry.kind}|{name}"


def _row(entry: Entry, etag: str = "") -> Row:
    values = {name: getattr(entry, name) for name in ("request", "account", "unit", "created", "slice", "index")}
    return Row(*_address(entry), {**values, "owed": False}, etag)


def _entry(wanted: Entry, row: Row) -> Entry:
    values = {name: value for name, value in row.values.items() if name != "owed"}
    return msgspec.convert({"kind": wanted.kind, "caller": wanted.caller, "name": wanted.name, **values}, Entry)


def _hundreds(rows: list[Row]) -> list[list[Row]]:
    return [rows[at : at + 100] for at in range(0, len(rows), 100)]
