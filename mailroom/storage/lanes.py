"""Lanes in storage: one row for each mailbox, changed by ETag."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.account import Account
from mailroom.model.lane import Lane, Permit
from mailroom.model.places import LANES_TABLE
from mailroom.model.row import Change, Row, Value
from mailroom.ports import Store

TRIES = 8
BUSY = 60.0  # seconds for which a lane that another instance changed is read before each change


class StoredLanes:
    """Remembers the row that it wrote last: an instance that has a lane for itself changes it without reading it first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[tuple[str, str], Row] = {}
        self._busy: dict[tuple[str, str], float] = {}

    async def take(self, account: Account, permit: Permit, mails: int, *, single: bool, recipients: int = 0) -> Permit | float:
        """The permit that is ours, which may be for fewer requests; else the time at which to come again."""
        rate, permits, a_day = account.rate, account.traits.in_flight, account.recipients_a_day
        return await self._enter(
            account,
            permit,
            lambda lane, now: lane.take(now, rate, mails, permit, single=single, permits=permits, recipients=recipients, a_day=a_day),
        )

    async def join(self, account: Account, permit: Permit) -> Permit | float:
        """The same for requests that send nothing."""
        return await self._enter(account, permit, lambda lane, now: lane.join(now, permit, account.traits.in_flight))

    async def _enter(self, account: Account, permit: Permit, enter: Callable[[Lane, float], Lane | float]) -> Permit | float:
        found: Permit | float = 0.0

        def change(lane: Lane) -> Lane | None:
            nonlocal found
            ours = lane.permit(permit.nonce)  # there already where our own write won, and its repeat lost to it
            after = lane if ours else enter(lane, self._store.now())
            if isinstance(after, Lane):
                found = ours or after.permits[-1]
                return after
            found = after
            return None

        if await self._change(account, change) or (isinstance(found, float) and found):
            return found
        return self._store.now() + random.uniform(0.2, 1.0)  # noqa: S311  # spreads who lost a race, keeps no secret

    async def release(self, account: Account, nonce: str, *, not_before: float = 0.0, why: str = "", unsent: int = 0) -> None:
        """The permit back, and the recipients to whom nothing was sent; with `not_before` the whole lane waits until then, and knows why.

        Losing every race leaves the permit to expire.
        """
        await self._change(account, lambda lane: lane.release(nonce, unsent).pause(not_before, why))

    async def rest(self, account: Account, until: float, why: str) -> None:
        """Nothing goes before that time; where every race is lost, some may."""
        await self._change(account, lambda lane: lane.pause(until, why))

    async def look(self, account: Account) -> Lane:
        return _read(await self._store.get_row(LANES_TABLE, account.name, account.provider))

    async def extend(self, account: Account, nonce: str, until: float) -> None:
        """The permit lives as long as its claim. Losing every race lets it expire early."""
        await self._change(account, lambda lane: lane.extend(nonce, until))

    async def _change(self, account: Account, change: Callable[[Lane], Lane | None]) -> bool:
        key = account.name, account.provider
        row = self._written.pop(key, None)
        for _ in range(TRIES):
            lane = change(_read(row)) if row else None
            if lane is None:  # nothing to write by what we remember, so what is there now decides
                row = await self._store.get_row(LANES_TABLE, *key)
                lane = change(_read(row))
            if lane is None:
                return False
            try:
                [etag] = await self._store.write(LANES_TABLE, [wanted := _write(account, lane, row)])
            except StorageConflict:
                self._busy[key] = self._store.now() + BUSY
                row = None
                continue
            if self._busy.get(key, 0.0) <= self._store.now():
                self._written[key] = msgspec.structs.replace(wanted.row, etag=etag)
            return True
        return False


def _read(row: Row | None) -> Lane:
    if row is None:
        return Lane()
    values = row.values
    permits, hours = (msgspec.json.decode(str(values.get(name, "[]"))) for name in ("permits", "hours"))
    return msgspec.convert({**values, "permits": permits, "hours": hours}, Lane)


def _write(account: Account, lane: Lane, row: Row | None) -> Change:
    values: dict[str, Value] = {
        "shared": lane.shared,
        "singles": lane.singles,
        "not_before": lane.not_before,
        "permits": msgspec.json.encode(lane.permits).decode(),
    }
    if lane.why:
        values["why"] = lane.why
    if lane.hours:
        values["hours"] = msgspec.json.encode(lane.hours).decode()
    changed = Row(account.name, account.provider, values, row.etag if row else "")
    return Change("replace" if row else "insert", changed)
