"""Where each mailbox's sync has come to, and which mails were announced.

Table MailCursors, partition = account, so that the cursor and the marks of one page move in one transaction:
  `cursor`                    the provider's link and the horizon
  `seen|RECEIVED|HASH`        a mail whose event was put; in the order of arrival, so that old marks are one range
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import msgspec

from mailroom.errors import StorageConflict
from mailroom.model.account import Account
from mailroom.model.page import Arrival
from mailroom.model.places import CURSORS_TABLE
from mailroom.model.row import Change, Row
from mailroom.ports import Store

AT_ONCE = 8
TRANSACTION = 100
_KEY = "cursor"


class Cursor(msgspec.Struct, frozen=True):
    """`link` is "" where the folder has to be walked from its beginning; `walking` until that walk has come to its end.

    `since` is the horizon: what was received before it is no news. `not_before` is when the provider wants to be asked again.
    """

    mailbox: str
    since: float
    link: str = ""
    walking: bool = True
    not_before: float = 0.0
    etag: str = ""


class StoredCursors:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, account: Account) -> Cursor | None:
        """None where there is none for this mailbox: an account may have been given another address or folder."""
        row = await self._store.get_row(CURSORS_TABLE, account.name, _KEY)
        if row is None:
            return None
        cursor = msgspec.convert({**row.values, "etag": row.etag}, Cursor)
        return cursor if cursor.mailbox == mailbox(account) else None

    async def start(self, account: Account, since: float) -> Cursor:
        """Written before the first page is asked for: whenever the walk begins anew, it begins from the same time."""
        row = await self._store.get_row(CURSORS_TABLE, account.name, _KEY)  # of another mailbox, if any
        cursor = Cursor(mailbox(account), since, etag=row.etag if row else "")
        [etag] = await self._store.write(CURSORS_TABLE, [Change("replace" if row else "insert", _row(account, cursor))])
        return msgspec.structs.replace(cursor, etag=etag)

    async def save(self, account: Account, cursor: Cursor, announced: Sequence[Arrival] = ()) -> Cursor:
        """The cursor and the marks move together. Raises StorageConflict when another sync has moved it meanwhile.

        Marks beyond one transaction go ahead of it, which is true as well: their events were put.
        """
        marks = [Change("upsert", Row(account.name, _mark(account, arrival))) for arrival in announced]
        while len(marks) >= TRANSACTION:
            await self._store.write(CURSORS_TABLE, marks[:TRANSACTION])
            marks = marks[TRANSACTION:]
        etag, *_ = await self._store.write(CURSORS_TABLE, [Change("replace", _row(account, cursor)), *marks])
        return msgspec.structs.replace(cursor, etag=etag)

    async def put_off(self, account: Account, until: float) -> None:
        """For every sync of this mailbox, whoever runs it."""
        await self._store.write(CURSORS_TABLE, [Change("merge", Row(account.name, _KEY, {"not_before": until}))])

    async def unseen(self, account: Account, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Those that were not announced yet, each once."""
        room = asyncio.Semaphore(AT_ONCE)

        async def seen(arrival: Arrival) -> bool:
            async with room:
                return await self._store.get_row(CURSORS_TABLE, account.name, _mark(account, arrival)) is not None

        once = list({arrival.id: arrival for arrival in arrivals}.values())
        known = await asyncio.gather(*map(seen, once))
        return [arrival for arrival, was_seen in zip(once, known, strict=True) if not was_seen]

    async def forget(self, account: Account, before: float) -> int:
        """Marks of mails received before that time, at most a transaction of them; how many went."""
        old = await self._store.query(CURSORS_TABLE, account.name, "seen|", f"seen|{before:012.0f}", top=TRANSACTION)
        if not old:
            return 0
        try:
            await self._store.write(CURSORS_TABLE, [Change("delete", Row(account.name, row.key)) for row in old])
        except StorageConflict:  # another sync was at it
            return 0
        return len(old)


def mailbox(account: Account) -> str:
    return f"{account.address.lower()}/{account.folder}"


def name_of(account: Account, message_id: str) -> str:
    """One mail's name in every place of ours, the same however often it is synced."""
    return hashlib.sha256(f"{account.name}\0{message_id}".encode()).hexdigest()[:40]


def _mark(account: Account, arrival: Arrival) -> str:
    return f"seen|{max(0.0, arrival.received.timestamp()):012.0f}|{name_of(account, arrival.id)}"


def _row(account: Account, cursor: Cursor) -> Row:
    values = {name: getattr(cursor, name) for name in ("mailbox", "since", "link", "walking", "not_before")}
    return Row(account.name, _KEY, values, cursor.etag)
