"""How long mails take under the pace of their accounts, if nothing else is sent meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from mailroom.model.account import Account
from send_mail.line import Owed

DAY = 86400.0


class Tally:
    """Mails and recipients by account."""

    def __init__(self) -> None:
        self._mails: Counter[str] = Counter()
        self._recipients: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._mails)

    @property
    def accounts(self) -> list[str]:
        return list(self._mails)

    def add(self, account: str, recipients: int, mails: int = 1) -> None:
        self._mails[account] += mails
        self._recipients[account] += recipients

    def seconds(self, accounts: Mapping[str, Account]) -> float:
        """Until the last mail of the slowest account goes."""
        known = [name for name in self._mails if name in accounts]
        return max((lane(accounts[name], self._mails[name], self._recipients[name]) for name in known), default=0.0)


def seconds(lines: Iterable[Owed], accounts: Mapping[str, Account]) -> float:
    """What all of them take."""
    tally = Tally()
    for line in lines:
        tally.add(line.account, line.recipients)
    return tally.seconds(accounts)


def lane(account: Account, mails: int, recipients: int) -> float:
    """Of one account: whole days for what is beyond its recipients a day, and the rest at its rate."""
    if mails == 0:
        return 0.0
    days = (recipients - 1) // account.recipients_a_day if account.recipients_a_day else 0
    rest = mails * (1 - days * account.recipients_a_day / recipients) if days else mails
    return days * DAY + max(rest - 1, 0) * 60 / account.rate
