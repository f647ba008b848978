"""A mail that somebody decides of, as it stands."""

from __future__ import annotations

import msgspec

from mailroom.model.account import Account, Timing
from mailroom.model.slice import Mail, Slice

NEVER_TRIED = frozenset({"tickets_died", "account_removed"})  # held as they stood: without a doubt of before there is none now


class Matter(msgspec.Struct, frozen=True):
    """The mail by its place in a slice that `standing` gave, and what bears on the decision. `now` is by storage's clock."""

    found: Slice
    at: int
    account: Account | None
    timing: Timing
    now: float

    @property
    def mail(self) -> Mail:
        return self.found.mails[self.at]

    def after(self, mail: Mail) -> Slice:
        """The slice with that mail in its place."""
        return self.found.with_mails(mail if at == self.at else one for at, one in enumerate(self.found.mails))


def standing(found: Slice, now: float, grace: float) -> Slice:
    """The slice as who decides finds it. A claim that ran out is taken away: should its holder wake, it can only tell what was sent."""
    if found.claim_until > now:
        return found
    return msgspec.structs.replace(found.lapsed(now, grace), claim="", claim_until=0.0)


def may_have_been_sent(mail: Mail) -> bool:
    """Of what was not settled, and is in nobody's hands."""
    return mail.status in ("pending", "in_doubt", "held") and not surely_unsent(mail)


def surely_unsent(mail: Mail) -> bool:
    """Of what was not sent as far as is known."""
    if mail.status == "held" and mail.code not in NEVER_TRIED:
        return mail.attempt == 0
    return mail.doubt_since is None
