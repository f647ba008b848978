"""Refresh tokens in the vault, and whose turn it is to write one: the timer's of some instance, or `mailroom login`'s.

The vault has no conditional write, so a row decides: table MailTokens, partition `turn`, row SECRET. Without it, what one timer got for an
older token could overwrite the token that somebody has just signed in for.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import msgspec

from mailroom.errors import StorageConflict, StorageDown
from mailroom.model.places import TOKENS_TABLE
from mailroom.model.row import Change, Row
from mailroom.ports import Store, Vault

PARTITION = "turn"
TURN = 120.0  # seconds; whoever has it does all within them
ROTATE = 7 * 86400.0  # of the 90 days that a refresh token lives; each time is another version of the secret
RETRY = 3600.0
CONTENT_TYPE = "application/vnd.mailroom.refresh-token"


@dataclass(frozen=True, slots=True)
class RefreshTokens:
    store: Store
    vault: Vault
    rotate: float = ROTATE
    retry: float = RETRY

    async def turn(self, name: str, *, due_only: bool = False) -> Row | None:
        """The turn to write that secret; None while somebody else has it, or, with `due_only`, as long as it was written lately."""
        row, now = await self.store.get_row(TOKENS_TABLE, PARTITION, name), self.store.now()
        if row is not None and (float(row.values["held_until"]) > now or (due_only and float(row.values["due"]) > now)):
            return None
        values = {"held_until": now + TURN, "due": row.values["due"] if row else now}
        mine = Row(PARTITION, name, values, etag=row.etag if row else "")
        try:
            [etag] = await self.store.write(TOKENS_TABLE, [Change("replace" if row else "insert", mine)])
        except StorageConflict:
            return None
        return msgspec.structs.replace(mine, etag=etag)

    async def put(self, turn: Row, value: str) -> None:
        await self.vault.set_secret(turn.key, value, CONTENT_TYPE)
        await self._end(turn, self.store.now() + self.rotate)

    async def give_back(self, turn: Row, *, failed: bool) -> None:
        """Nothing was written: there is nothing to write, or it `failed` and is tried again before long."""
        await self._end(turn, self.store.now() + (self.retry if failed else self.rotate))

    async def _end(self, turn: Row, due: float) -> None:
        """A turn that ran out is somebody else's to end by now, and one that cannot be ended runs out by itself."""
        ended = msgspec.structs.replace(turn, values={"held_until": 0.0, "due": due})
        with suppress(StorageConflict, StorageDown):
            await self.store.write(TOKENS_TABLE, [Change("replace", ended)])
