"""A batch that lies in a blob while it is accepted, piece by piece: what was asked for, and how far it has come."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["reading", "naming", "accepted", "refused"]
OPEN: frozenset[State] = frozenset({"reading", "naming"})


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What one account has of the batch so far, and of how many of its slices the ids can be looked up."""

    account: str
    slices: int = 0
    mails: int = 0
    recipients: int = 0
    named: int = 0


class Fault(msgspec.Struct, frozen=True):
    """Why the batch was refused; `status` is what a request with the same mistake is answered with."""

    code: str
    detail: str
    next_step: str = ""
    field: str = ""
    status: int = 400


class Intake(msgspec.Struct, frozen=True):
    """One batch on its way in. Its lines are read (`reading`), their ids entered (`naming`), then it counts (`accepted`) or never will.

    `blob` is the upload with its caller's folder, `size` and `etag` say of which bytes. `offset` is how many of them are done, `line`
    how many lines those are, `chunk` in how many portions they came. `shares` are in the order in which the accounts appeared, `turns`
    says how many seconds of mails each of several senders has by then (`send_mail.spread`). Of the lines `ids` have an id of their own,
    `refused` were left behind. Nothing goes before `send_at`, 0 for at once. Times are seconds since the epoch; `version` is the row's
    ETag.
    """

    id: str
    caller: str
    request: str
    blob: str
    size: int
    etag: str
    created: float
    partial: bool = False
    send_at: float = 0.0
    state: State = "reading"
    offset: int = 0
    line: int = 0
    chunk: int = 0
    shares: tuple[Share, ...] = ()
    turns: tuple[float, ...] = ()
    ids: int = 0
    refused: int = 0
    fault: Fault | None = None
    version: str = ""

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def start(self) -> float:
        """When its first mail may go."""
        return max(self.created, self.send_at)

    @property
    def mails(self) -> int:
        return sum(share.mails for share in self.shares)
