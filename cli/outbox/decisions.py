"""What a person may decide about a mail. Pure: the mail before, the mail after, or why not."""

from __future__ import annotations

from typing import Literal

import msgspec

from cli.outbox.mails import Found
from mailroom.errors import BadInput, Refused
from mailroom.model.account import Account
from mailroom.model.slice import Mail

Decision = Literal["sent", "resend", "refused"]  # the words of POST /api/messages/{id}/resolve
DECISIONS: tuple[Decision, ...] = ("sent", "resend", "refused")
NEVER_TRIED = frozenset({"tickets_died", "account_removed"})  # held as they stood: without a doubt of before there is none now


def requeued(found: Found, account: Account | None, now: float, give_up: float) -> Mail:
    """Owed again. What may have been sent is asked for first; where nobody can be asked, only `resolve` may say what is true."""
    mail = found.mail
    _held(mail, "requeued", ("held", "refused"))
    asked = _sendable(found, account).can_be_asked
    if mail.status == "refused" or _surely_unsent(mail):
        return _in_time(found, mail.pending(now), now, give_up)
    if asked:
        return _in_time(found, mail.doubtful(mail.doubt_since or now, now), now, give_up)
    what = f"{mail.id} may have been sent, and this account can't be asked."
    raise BadInput("may_have_been_sent", what, f"Look into Sent Items, then `mailroom outbox resolve {mail.id} sent` or `… resend`.")


def resolved(found: Found, decision: Decision, account: Account | None, now: float, give_up: float) -> Mail:
    """By somebody who has looked."""
    mail = found.mail
    _held(mail, "resolved", ("held", "in_doubt"))
    if decision == "refused":
        return mail.ended("refused", Refused("resolved", "A person decided that it was not sent and shall not be."))
    if decision == "resend":
        _sendable(found, account)
        return _in_time(found, mail.pending(now), now, give_up)
    note = "A person found that it was sent."
    return msgspec.structs.replace(mail, status="sent", doubt_since=None, code=None, detail=None, next_step=None, note=note)


def cancelled(found: Found) -> Mail:
    """Never sent, or never again."""
    mail = found.mail
    _held(mail, "dropped", ("pending", "in_doubt", "held"))
    why = BadInput("dropped", "A person dropped it.", "It may have been sent before." if may_have_been_sent(mail) else "")
    return mail.ended("cancelled", why)


def may_have_been_sent(mail: Mail) -> bool:
    return mail.status in ("in_doubt", "held") and not _surely_unsent(mail)


def _surely_unsent(mail: Mail) -> bool:
    return mail.attempt == 0 or (mail.doubt_since is None and mail.code in NEVER_TRIED)


def _held(mail: Mail, done: str, wanted: tuple[str, ...]) -> None:
    if mail.status not in wanted:
        step = "Wait until it is settled." if mail.status == "sending" else "`mailroom outbox show` tells what became of it."
        raise BadInput("status_wrong", f"{mail.id} is {mail.status}; only {' or '.join(wanted)} mails are {done}.", step)


def _sendable(found: Found, account: Account | None) -> Account:
    if account is None or not account.send:
        what = f"{found.mail.id} is of {found.slice_.ref.account}, of which nothing is sent any more."
        raise BadInput("account_unknown", what, "Restore the account in accounts.toml first.")
    return account


def _in_time(found: Found, after: Mail, now: float, give_up: float) -> Mail:
    """The sending room ends at once what is too old; only where nothing else of the slice is owed its time can begin anew."""
    fresh = not found.slice_.owed and after.doubt_since is None
    if not fresh and found.slice_.created + give_up <= now:
        what = f"{after.id} was accepted more than {give_up / 3600:.0f} hours ago, and may have been sent."
        step = f"Look into Sent Items, then `mailroom outbox resolve {after.id} sent` or `… resend`."
        if after.doubt_since is None:
            what, step = f"{after.id} was accepted more than {give_up / 3600:.0f} hours ago.", "Wait until the mails beside it are settled."
        raise BadInput("mail_expired", what, step)
    return after
