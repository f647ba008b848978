"""What becomes of a claim's mails: of each answer, of none, of time that ran out. Pure, but for the time that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailroom.errors import DeliveryInDoubt, MailroomError, NotSent, ProviderError, Refused, Throttled, TokenRejected
from mailroom.model.account import Timing
from mailroom.model.message import Receipt
from mailroom.model.slice import Mail, Status
from send_mail.claim import Claim

CANCELLED = NotSent("batch_cancelled", "The batch was cancelled before the mail went.", "Send it in another batch, if it shall go.")

Answer = Receipt | ProviderError


@dataclass(frozen=True, slots=True)
class Outcome:
    claim: Claim
    timing: Timing
    now: float

    def answered(self, at: int, answer: Answer) -> Mail:
        """By the provider, of a mail that we tried to send."""
        mail, account = self.claim.ours.mails[at], self.claim.account
        if isinstance(answer, Receipt):
            return mail.sent(answer)
        if isinstance(answer, Refused):
            return mail.ended("refused", answer)
        if isinstance(answer, NotSent | TokenRejected):
            return mail.pending(self.now + rest(answer, self.timing), answer)
        if self.claim.can_ask(at):
            return mail.doubtful(self.now, self.now + max(self.timing.grace, answer.retry_after or 0.0), answer)
        if isinstance(answer, Throttled):  # nobody can be asked: a 429 then counts as not sent, a 503 does not
            if not answer.vague:
                return mail.pending(self.now + rest(answer, self.timing), answer)
            answer = DeliveryInDoubt(answer.code, answer.detail)
        return mail.ended("held", answer) if account.in_doubt == "hold" else mail.pending(self.now + self.timing.grace, answer)

    def unanswered(self, at: int, fault: MailroomError) -> Mail:
        """The question whether it was sent."""
        mail = self.claim.before.mails[at]
        if self._is_late:
            return mail.ended("held", fault)
        return mail.doubtful(mail.doubt_since or self.now, self.now + (fault.retry_after or self.timing.pause), fault)

    def unaskable(self, at: int) -> Mail:
        why = DeliveryInDoubt("cannot_ask", "The mail may have been sent, and this account can't be asked.", "Look, then decide by hand.")
        return self.claim.before.mails[at].ended("held", why)

    def bodiless(self, at: int) -> Mail:
        why = Refused("body_missing", "The mail's body is no longer in storage.", "Send the mail again as a new one.")
        mail = self.claim.before.mails[at]
        return mail.ended("refused" if mail.doubt_since is None else "held", why)

    def expired(self, going: Sequence[int]) -> dict[int, Mail]:
        """Of those that would go now. Who may have been sent, and nobody can be asked, is for a person.

        A batch's mail that was not tried yet has waited for its turn, which its mailbox's pace may bring after days.
        """
        if not self._is_late:
            return {}
        why = Refused("expired", "The mail could not be sent within the time allowed.", "See the account's events for the reason.")
        before = self.claim.before
        return self._ended([at for at in going if before.mails[at].attempt or not before.batch], "refused", why)

    def cancelled(self, going: Sequence[int]) -> dict[int, Mail]:
        return self._ended(going, "cancelled", CANCELLED)

    @property
    def _is_late(self) -> bool:
        return self.claim.ours.created + self.timing.give_up <= self.now

    def _ended(self, going: Sequence[int], status: Status, why: MailroomError) -> dict[int, Mail]:
        mails = {at: self.claim.before.mails[at] for at in going}
        unsent = {at: mail.doubt_since is None or self.claim.can_ask(at) for at, mail in mails.items()}
        return {at: mail.ended(status if unsent[at] else "held", why) for at, mail in mails.items()}


def rest(answer: Answer, timing: Timing) -> float:
    """How long the lane rests after this answer: faults of the account and its provider pause it, those of the mail don't."""
    if isinstance(answer, NotSent | TokenRejected | Throttled):
        return timing.pause if answer.retry_after is None else answer.retry_after
    return 0.0
