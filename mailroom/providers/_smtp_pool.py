"""Connections that outlast a mail and a slice: lent one by one, kept for a while, never more of one mailbox than its server allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from mailroom.providers._smtp_connection import Connection

KEEP = 20.0  # seconds: with 30 mails a minute the next one comes sooner; longer, and another instance's connections would be one too many
MOST_MAILS = 500  # on one connection; Exchange and Gmail close it at some time anyway


class Key(NamedTuple):
    """A connection is good for the account and the very token that it signed in with ("" for none)."""

    account: str
    token: str


class Pool:
    def __init__(self, *, keep: float = KEEP) -> None:
        self._keep = keep
        self._kept: dict[Key, list[tuple[Connection, asyncio.TimerHandle]]] = {}
        self._rooms: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def lent(self, key: Key, most: int, open_one: Callable[[], Awaitable[Connection]]) -> AsyncIterator[Loan]:
        """A kept connection, or a new one; afterwards it is kept if it still lives. A `most` of that account at a time."""
        async with self._rooms.setdefault(key.account, asyncio.Semaphore(most)):
            self._drop_others(key)
            loan = Loan(self._taken(key) or await open_one(), open_one)
            try:
                yield loan
            except BaseException:
                loan.connection.close()  # cancelled in the middle of something: nobody knows what its next answer would be to
                raise
            self._put_back(key, loan.connection)

    def close(self) -> None:
        """All that is kept; what is lent is its holder's to end."""
        for kept in self._kept.values():
            for connection, timer in kept:
                timer.cancel()
                connection.quit()
        self._kept.clear()

    def _taken(self, key: Key) -> Connection | None:
        kept = self._kept.get(key, [])
        while kept:
            connection, timer = kept.pop()
            timer.cancel()
            if connection.alive:
                return connection
        return None

    def _put_back(self, key: Key, connection: Connection) -> None:
        if not connection.alive:
            return
        if connection.used >= MOST_MAILS:
            connection.quit()
            return
        timer = asyncio.get_running_loop().call_later(self._keep, self._expire, key, connection)
        self._kept.setdefault(key, []).append((connection, timer))

    def _expire(self, key: Key, connection: Connection) -> None:
        self._kept[key] = [one for one in self._kept.get(key, []) if one[0] is not connection]
        if not self._kept[key]:
            del self._kept[key]
        connection.quit()

    def _drop_others(self, key: Key) -> None:
        """Those of the account's earlier tokens: they count for the server, and are of no use to us."""
        for other in [one for one in self._kept if one.account == key.account and one != key]:
            for connection, timer in self._kept.pop(other):
                timer.cancel()
                connection.quit()


class Loan:
    """The connection that is lent; `again` puts a new one in its place where it had ended unnoticed."""

    def __init__(self, connection: Connection, open_one: Callable[[], Awaitable[Connection]]) -> None:
        self.connection = connection
        self._open_one = open_one

    async def again(self) -> Connection:
        self.connection.close()
        self.connection = await self._open_one()
        return self.connection
