"""A mail's second try: a held or a refused mail is owed again. Pure: the slice before, the slice after, or why not.

What may have been sent is asked for first. A question asks what was sent since the slice was created, so `created` and a mail's doubt
bind each other: see `owed` and `_check_askable`.
"""

from __future__ import annotations

import msgspec

from mailroom.errors import Conflict
from mailroom.model.matter import Matter, surely_unsent
from mailroom.model.slice import Mail, Slice

_LOOK = "Look into Sent Items, then `mailroom outbox resolve {id} sent` or `… resend`."
_NEW = "Look into Sent Items; if it is not there, send it as a new mail."


def again(matter: Matter) -> Slice:
    """A refused mail has had its second try by this. Raises Conflict."""
    check_sends(matter)
    before = matter.mail
    mail = msgspec.structs.replace(before.pending(0.0), retried=before.retried or before.status == "refused")
    if surely_unsent(before):
        return owed(matter, mail)
    _check_askable(matter)
    since = before.doubt_since or matter.now
    return owed(matter, mail.doubtful(since, since + matter.timing.grace))


def owed(matter: Matter, mail: Mail) -> Slice:
    """With the mail owed. Giving up counts anew, where nothing else of the slice is owed and the mail need not be asked for.

    Raises Conflict.
    """
    if matter.found.owed or mail.doubt_since is not None:
        _check_in_time(matter, mail)
        return matter.after(mail)
    mails = (_dated(one, matter.found.created) for one in matter.after(mail).mails)
    return msgspec.structs.replace(matter.found.with_mails(mails), created=matter.now)


def check_sends(matter: Matter) -> None:
    """Raises Conflict."""
    if matter.account is None or not matter.account.send:
        what = f"{matter.mail.id} is of {matter.found.ref.account}, of which nothing is sent any more."
        raise Conflict("account_unknown", what, "Restore the account in accounts.toml first.")


def _check_askable(matter: Matter) -> None:
    """Where `created` began anew after the doubt, a question would find nothing."""
    mail = matter.mail
    asked = matter.account is not None and matter.account.can_be_asked
    if not asked or (mail.doubt_since or matter.now) < matter.found.created:
        step = _NEW if mail.status == "refused" else _LOOK.format(id=mail.id)
        raise Conflict("may_have_been_sent", f"{mail.id} may have been sent, and can't be asked for.", step)


def _check_in_time(matter: Matter, mail: Mail) -> None:
    """The sending room ends at once what is too old. A refused mail may have been sent all the same: nothing but a question tells."""
    hours = matter.timing.give_up / 3600
    if matter.found.created + matter.timing.give_up > matter.now:
        return
    if mail.doubt_since is None:
        what = f"{mail.id} was accepted more than {hours:.0f} hours ago."
        raise Conflict("mail_expired", what, "Wait until the mails beside it are settled.")
    if matter.mail.status == "held":
        what = f"{mail.id} was accepted more than {hours:.0f} hours ago, and may have been sent."
        raise Conflict("mail_expired", what, _LOOK.format(id=mail.id))


def _dated(mail: Mail, created: float) -> Mail:
    """A doubt without a date is from before `created` begins anew."""
    undated = mail.status == "held" and mail.doubt_since is None and not surely_unsent(mail)
    return msgspec.structs.replace(mail, doubt_since=created) if undated else mail
