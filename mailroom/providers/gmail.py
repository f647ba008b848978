"""The Gmail API as a provider: ports.Sender and ports.Inbox in one."""

from __future__ import annotations

from collections.abc import Iterator

from mailroom.model.account import Account, Size, Traits
from mailroom.ports import Parts
from mailroom.providers import _authorities
from mailroom.providers._gmail_inbox import GmailInbox
from mailroom.providers._gmail_json import LIMIT
from mailroom.providers._gmail_sender import GmailSender

SCOPE = "https://www.googleapis.com/auth/"

# A mail costs 100 of the 6,000 units that a user has each minute, a question 5 to 25: half of it is left for asking and receiving.
TRAITS = Traits(
    permissions=("gmail.send", "gmail.readonly", "gmail.modify"),
    usual=("gmail.send", "gmail.readonly"),
    sending=frozenset({"gmail.send", "gmail.modify"}),
    asking=frozenset({"gmail.readonly", "gmail.modify"}),
    rate=30.0,
    recipients_a_day=2_000,  # the mails that a user may send a day (support.google.com/a/answer/166852), each to one at least
    uploads=True,
    sizes=(Size("a mail", LIMIT),),
)


class Gmail(GmailSender, GmailInbox):
    """Both sides share one client and one way to ask."""


def build(parts: Parts) -> Gmail:
    return Gmail(parts.client(), parts.store)


def scope(account: Account) -> str:
    """Only what the account's permissions say, in the order in which an administrator reads them."""
    return " ".join(f"{SCOPE}{name}" for name in TRAITS.permissions if name in account.permissions)


def mistakes(account: Account) -> Iterator[tuple[str, str, str]]:
    return _authorities.mistakes(account, google=True)
