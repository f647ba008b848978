"""A slice: up to 20 mails of one account that are claimed, sent and settled together. Pure: storage keeps it, deliver drives it.

The states of a mail: pending, sending, sent, refused, in_doubt (will be asked), held (a person decides), cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from mailroom.errors import MailroomError
from mailroom.model.message import Receipt

Status = Literal["pending", "sending", "sent", "refused", "in_doubt", "held", "cancelled"]
STATUSES: tuple[Status, ...] = ("pending", "sending", "sent", "refused", "in_doubt", "held", "cancelled")
OWED: frozenset[Status] = frozenset({"pending", "sending", "in_doubt"})

SHOWN = 400  # characters of what went wrong with a mail
SLICE_MAILS = 20
SLICE_BYTES = 3 * 1024 * 1024


class Mail(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the ledger knows of one mail. Times are seconds since the epoch on storage's clock.

    A field that this version does not know is no mail of its: written again, it would be lost.
    `doubt_since` is when the last request that may have carried it ended; `due` is when it may be tried or asked for next. `retried` is one
    that was refused, and tried once more because somebody asked for that.
    """

    id: str
    status: Status = "pending"
    line: int | None = None
    attempt: int = 0
    due: float = 0.0
    doubt_since: float | None = None
    path: str | None = None
    provider_id: str | None = None
    request_id: str | None = None
    note: str | None = None
    why: str | None = None
    code: str | None = None
    detail: str | None = None
    stamp: str = ""
    recipients: int = 1
    retried: bool = False
    next_step: str | None = None

    def sent(self, receipt: Receipt) -> Mail:
        return msgspec.structs.replace(
            self,
            status="sent",
            doubt_since=None,
            code=None,
            detail=None,
            next_step=None,
            path=receipt.path,
            provider_id=receipt.provider_id,
            request_id=receipt.request_id,
            note=receipt.note,
            why=receipt.why,
        )

    def ended(self, status: Status, why: MailroomError) -> Mail:
        return msgspec.structs.replace(self, status=status, **_told(why))

    def pending(self, due: float, why: MailroomError | None = None) -> Mail:
        return msgspec.structs.replace(self, status="pending", doubt_since=None, due=due, **_told(why))

    def doubtful(self, since: float, due: float, why: MailroomError | None = None) -> Mail:
        told = _told(why) if why else {}
        return msgspec.structs.replace(self, status="in_doubt", doubt_since=since, due=due, **told)

    def sending(self) -> Mail:
        return msgspec.structs.replace(self, status="sending", attempt=self.attempt + 1)


class Ref(msgspec.Struct, frozen=True):
    """Where a slice lies: the account is the ledger's partition, the unit a batch or a single mail."""

    account: str
    unit: str
    slice: int = 0


class Slice(msgspec.Struct, frozen=True):
    """One row of the ledger. `claim` is the holder's nonce; nobody else touches it before `claim_until`."""

    ref: Ref
    caller: str
    mails: tuple[Mail, ...]
    created: float
    batch: bool = False
    claim: str = ""
    claim_until: float = 0.0
    etag: str = ""

    @property
    def owed(self) -> bool:
        return any(mail.status in OWED for mail in self.mails)

    @property
    def due(self) -> float:
        """When the slice's next ticket should be seen."""
        return max(self.claim_until, min((mail.due for mail in self.mails if mail.status in OWED), default=0.0))

    def lapsed(self, now: float, grace: float) -> Slice:
        """The slice as it stands once its claim has run out: what was `sending` is in doubt since the claim's end."""
        if self.claim_until > now or not any(mail.status == "sending" for mail in self.mails):
            return self
        since = self.claim_until
        return self.with_mails(mail.doubtful(since, since + grace) if mail.status == "sending" else mail for mail in self.mails)

    def claimed(self, nonce: str, now: float, until: float) -> Slice:
        """What is due is `sending` from here on; `doubt_since` stays, so that the claimant asks before it sends."""
        mails = (mail.sending() if mail.status in OWED and mail.due <= now else mail for mail in self.mails)
        return msgspec.structs.replace(self.with_mails(mails), claim=nonce, claim_until=until)

    def settled(self, outcomes: dict[int, Mail]) -> Slice:
        """Released, with what became of its mails; who was sent meanwhile stays sent."""
        mails = (outcomes.get(i, mail) if mail.status != "sent" else mail for i, mail in enumerate(self.mails))
        return msgspec.structs.replace(self.with_mails(mails), claim="", claim_until=0.0)

    def with_sent(self, outcomes: dict[int, Mail]) -> Slice:
        """For who lost the claim: it may only say what it knows was sent, and never takes that back."""
        known = {i: mail for i, mail in outcomes.items() if mail.status == "sent"}
        return self.with_mails(known.get(i, mail) for i, mail in enumerate(self.mails))

    def with_mails(self, mails: Iterable[Mail]) -> Slice:
        return msgspec.structs.replace(self, mails=tuple(mails))


def _told(why: MailroomError | None) -> dict[str, str | None]:
    """What was found may be long; what to do about it stays whole. Twenty mails of it go into one row."""
    if why is None:
        return {"code": None, "detail": None, "next_step": None}
    room = max(SHOWN - len(why.next_step), 100)
    detail = why.detail if len(why.detail) <= room else f"{why.detail[: room - 1]}…"
    return {"code": why.code, "detail": detail, "next_step": why.next_step or None}
