"""What has become of a batch, counted slice by slice: a batch of a million mails is never in memory as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mailroom.model.batch import Batch, RefusedLine
from mailroom.model.slice import OWED, Mail, Slice, Status
from send_mail import estimate

SHOWN = 100  # of the refused; all of them are at …/failures


class Count:
    """`owed` are mails that something is still to be done for; `refused` are the first of the refused ones by line."""

    def __init__(self, batch: Batch) -> None:
        self.by_status: Counter[Status] = Counter()
        self.owed = estimate.Tally()
        self.done = 0
        self.refused: list[Mail | RefusedLine] = []
        self.by_status["refused"] = batch.refused

    def add(self, slices: Iterable[Slice]) -> None:
        refused: list[Mail] = []
        for slice_ in slices:
            for mail in slice_.mails:
                self.by_status[mail.status] += 1
                self.done += mail.status not in OWED
                if mail.status in OWED:
                    self.owed.add(slice_.ref.account, mail.recipients)
                elif mail.status == "refused":
                    refused.append(mail)
        self._keep(refused)

    def add_refused(self, lines: Sequence[RefusedLine]) -> None:
        """Those that were refused when the batch was accepted, and are counted by that."""
        self._keep(lines)

    def _keep(self, more: Sequence[Mail | RefusedLine]) -> None:
        if more:
            self.refused = sorted([*self.refused, *more], key=lambda one: one.line or 0)[:SHOWN]
