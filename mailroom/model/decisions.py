"""What a person may decide of mails, over HTTP and at a terminal alike. Pure: the slice before, the slice after, or why not.

Nothing here sends a mail twice: what may have been sent is asked for before it goes again, or a person says what it is. Only who
says `resend` may make a second copy.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import msgspec

from mailroom.errors import BadInput, Conflict, MailroomError, Refused
from mailroom.model import second_try
from mailroom.model.account import Account, Timing
from mailroom.model.batch import Batch
from mailroom.model.matter import Matter, may_have_been_sent
from mailroom.model.slice import Mail, Slice, Status

Decision = Literal["sent", "resend", "refused"]  # the words of POST /api/messages/{id}/resolve, and of `mailroom outbox resolve`
DECISIONS: tuple[Decision, ...] = ("sent", "resend", "refused")

BY_A_PERSON = "resolved"  # the code of what a person refused
FINAL = frozenset({"body_missing", BY_A_PERSON})  # refusals that no second try of a whole batch changes


def resolved(matter: Matter, decision: Decision, who: str) -> Slice:
    """What the mail is, as `who` says after a look into Sent Items. Raises Conflict."""
    mail = matter.mail
    _check(mail, "not_held", "resolved", ("held", "in_doubt"))
    if decision == "refused":
        why = Refused("resolved", f"It was not sent and shall not be, as {who} decided.")
        return matter.after(mail.ended("refused", why))
    if decision == "sent":
        return matter.after(_noted(mail, "sent", f"sent, as {who} decided"))
    second_try.check_sends(matter)
    _check_shown(matter)
    return second_try.owed(matter, _noted(mail.pending(0.0), "pending", f"resent, as {who} decided"))


def requeued(matter: Matter) -> Slice:
    """One mail that a person names, owed again. Raises Conflict: where nobody can be asked, only `resolved` says what is true."""
    mail = matter.mail
    _check(mail, "status_wrong", "requeued", ("held", "refused"))
    if mail.status == "refused" and mail.code == BY_A_PERSON:
        raise Conflict("status_wrong", f"{mail.id} was refused by a person.", "Send it as a new mail, if it shall go after all.")
    return second_try.again(matter)


def retried(found: Slice, account: Account | None, timing: Timing, now: float) -> Slice:
    """A batch's refused mails owed again, each once; what can't go now stays as it is.

    What must be asked for comes first, since that keeps `created`.
    """
    for at in sorted(range(len(found.mails)), key=lambda at: found.mails[at].doubt_since is None):
        mail = found.mails[at]
        if mail.status == "refused" and not mail.retried and mail.code not in FINAL:
            with suppress(Conflict):
                found = second_try.again(Matter(found, at, account, timing, now))
    return found


def dropped(matter: Matter) -> Slice:
    """Never sent, or never again. Raises Conflict."""
    mail = matter.mail
    _check(mail, "status_wrong", "dropped", ("pending", "in_doubt", "held"))
    why = BadInput("dropped", "A person dropped it.", "It may have been sent before." if may_have_been_sent(mail) else "")
    return matter.after(mail.ended("cancelled", why))


def cancelled(found: Slice, why: MailroomError) -> Slice:
    """Of a batch, what nobody has in hand and surely did not go. The rest is asked for first, and ended by who asks."""

    def ended(mail: Mail) -> Mail:
        return mail.ended("cancelled", why) if mail.status == "pending" and mail.doubt_since is None else mail

    return found.with_mails(map(ended, found.mails))


def check_there(mail: Mail, batch: Batch | None, *, body: bool) -> None:
    """What is owed again needs its body, and a batch that was not cancelled. Raises Conflict."""
    if not body:
        what = f"The body of {mail.id} is no longer in storage."
        raise Conflict("body_missing", what, "Send it as a new mail; one that is held can still be resolved as sent or refused.")
    if batch is not None:
        check_alive(batch)


def check_alive(batch: Batch) -> None:
    """Raises Conflict."""
    if batch.cancelled:
        raise Conflict("batch_cancelled", "The batch was cancelled.", "Send what shall go in another batch.")


def _check(mail: Mail, code: str, done: str, wanted: tuple[Status, ...]) -> None:
    if mail.status not in wanted:
        waits = mail.status in ("pending", "sending")
        step = "Wait until it is settled." if waits else "GET /api/messages/ID or `mailroom outbox show ID` tells what became of it."
        raise Conflict(code, f"{mail.id} is {mail.status}; only {' or '.join(wanted)} mails are {done}.", step)


def _check_shown(matter: Matter) -> None:
    """Of a mail in doubt nobody can say that it is not there before it must have shown (docs/architecture.md, reconcile)."""
    mail, timing = matter.mail, matter.timing
    left = (mail.doubt_since or 0.0) + timing.grace - matter.now
    if mail.status == "in_doubt" and left > 0:
        what = f"{mail.id} may still be on its way; whether it was sent shows within {left:.0f} seconds."
        raise Conflict("may_have_been_sent", what, "Wait for that, look into Sent Items again, then decide.")


def _noted(mail: Mail, status: Status, note: str) -> Mail:
    return msgspec.structs.replace(mail, status=status, doubt_since=None, code=None, detail=None, next_step=None, note=note)
