"""The ledger as a person looks at it: each account's mails, one mail by its id, and what a person changes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from mailroom.errors import BadInput, Conflict, LedgerNewer, NotFound
from mailroom.model.matter import standing
from mailroom.model.places import LEDGER_TABLE
from mailroom.model.slice import OWED, Mail, Slice
from mailroom.ports import Store
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.ledger_rows import read_slice

PAGE = 500
TRIES = 5
_UNIT = re.compile(r"([A-Za-z0-9]{1,100})(?:\.[0-9]{1,9}){0,3}")  # a unit, or a mail's place in it


@dataclass(frozen=True, slots=True)
class Found:
    """A mail where it lies."""

    slice_: Slice
    at: int

    @property
    def mail(self) -> Mail:
        return self.slice_.mails[self.at]


@dataclass(frozen=True, slots=True)
class Mails:
    """`grace` is the timing's: what was being sent when its claim ran out is in doubt. `newer` names rows that a newer version wrote."""

    store: Store
    ledger: StoredLedger
    grace: float
    newer: list[str] = field(default_factory=list)
    _committed: dict[str, bool] = field(default_factory=dict)

    async def accounts(self) -> list[str]:
        """All that ever owed something, also those that accounts.toml has no longer."""
        return sorted(await self.ledger.accounts())

    async def of(self, account: str, unit: str = "") -> AsyncIterator[Found]:
        """Of what was accepted, page by page; of one unit alone where it is given."""
        first, last = (f"s|{unit}|", f"s|{unit}}}") if unit else ("s|", "s}")
        while rows := await self.store.query(LEDGER_TABLE, account, first, last, top=PAGE):
            for row in rows:
                try:
                    slice_ = standing(read_slice(row), self.store.now(), self.grace)
                except LedgerNewer as error:
                    self.newer.append(error.detail)
                    continue
                if await self._counts(slice_):
                    for at in range(len(slice_.mails)):
                        yield Found(slice_, at)
            first = f"{rows[-1].key}!"  # behind this key, before any other

    async def find(self, name: str, account: str | None = None) -> Found:
        """By the mail's own id, or by the name we gave it. Raises NotFound, and BadInput where several callers used that id."""
        unit = match[1] if (match := _UNIT.fullmatch(name)) else ""
        found: list[Found] = []
        for one in [account] if account else await self.accounts():
            found += [mail async for mail in self.of(one, unit) if _is(mail, name)] if unit else []
        if not found:
            for one in [account] if account else await self.accounts():
                found += [mail async for mail in self.of(one) if _is(mail, name)]
        if not found:
            where = f" of {account}" if account else ""
            raise NotFound("message_unknown", f"There is no mail {name!r}{where}.", "`mailroom outbox list` shows the ids.")
        if len(found) > 1:
            names = ", ".join(one.mail.stamp for one in found[:5])
            raise BadInput("id_ambiguous", f"{len(found)} mails have the id {name!r}.", f"Name one of them: {names}.")
        return found[0]

    async def change(
        self, name: str, account: str | None, decide: Callable[[Found], Slice], ready: Callable[[Found], Awaitable[None]]
    ) -> Mail:
        """The mail as `decide` says, whoever else changes its slice meanwhile; before it is owed again, it is made `ready`.

        Raises what `find`, `decide` and `ready` raise, and Conflict.
        """
        for _ in range(TRIES):
            found = await self.find(name, account)
            after = decide(found)
            if after.mails[found.at].status in OWED:
                await ready(found)
            if await self.ledger.amend([(found.slice_, after)]):
                return after.mails[found.at]
        raise Conflict("mail_busy", f"Somebody else keeps changing {name!r}.", "Try again a little later.")

    async def _counts(self, slice_: Slice) -> bool:
        """What was cut off before its commit was never accepted."""
        unit = slice_.ref.unit
        if slice_.batch and unit not in self._committed:
            self._committed[unit] = await self.ledger.batch(unit) is not None
        return not slice_.batch or self._committed[unit]


def _is(found: Found, name: str) -> bool:
    return name in (found.mail.id, found.mail.stamp)
