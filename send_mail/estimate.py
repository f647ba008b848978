"""How long a batch takes under the pace of its accounts, if nothing else is sent meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from mailroom.model.account import Account
from send_mail.line import Owed

DAY = 86400.0


def seconds(lines: Iterable[Owed], accounts: Mapping[str, Account]) -> float:
    """Until the last mail of the slowest account goes."""
    mails: Counter[str] = Counter()
    recipients: Counter[str] = Counter()
    for line in lines:
        mails[line.account] += 1
        recipients[line.account] += line.recipients
    return max((lane(accounts[name], mails[name], recipients[name]) for name in mails if name in accounts), default=0.0)


def lane(account: Account, mails: int, recipients: int) -> float:
    """Of one account: whole days for what is beyond its recipients a day, and the rest at its rate."""
    if mails == 0:
        return 0.0
    days = (recipients - 1) // account.recipients_a_day if account.recipients_a_day else 0
    rest = mails * (1 - days * account.recipients_a_day / recipients) if days else mails
    return days * DAY + max(rest - 1, 0) * 60 / account.rate
