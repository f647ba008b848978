"""The sandbox's own count beside the ledger, mail by mail."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailroom.model.slice import OWED, Mail

DECIDED = ("refused", "held", "cancelled")


@dataclass(slots=True)
class Verdict:
    """Subjects by what is wrong with them. `explained` counts, by status and code, what was not sent and why, as a person is told."""

    mails: int = 0
    lost: list[str] = field(default_factory=list)
    sent_twice: list[str] = field(default_factory=list)
    owed: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    explained: Counter[str] = field(default_factory=Counter)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.sent_twice or self.owed or self.disagreements)


def judge(
    subjects: Iterable[str], copies: Mapping[str, Mapping[str, int]], ledger: Iterable[tuple[str, Mail]], aside: Mapping[str, str]
) -> Verdict:
    """`copies` is the sandbox's count: subject -> stamp -> copies. `ledger` has each mail with its subject.

    `aside` has the subjects of queue messages that were put aside for a person, each with the code of the reason.
    """
    verdict, mails = Verdict(), defaultdict[str, list[Mail]](list)
    for subject, mail in ledger:
        mails[subject].append(mail)
    for subject in subjects:
        verdict.mails += 1
        _judge_one(verdict, subject, copies.get(subject, {}), mails[subject], aside.get(subject))
    return verdict


def _judge_one(verdict: Verdict, subject: str, copies: Mapping[str, int], mails: list[Mail], aside: str | None) -> None:
    total = sum(copies.values())
    if total > 1:
        verdict.sent_twice.append(subject)
    if any((mail.status == "sent") != (copies.get(mail.stamp, 0) == 1) for mail in mails if mail.status != "held"):
        verdict.disagreements.append(subject)
    if any(mail.status in OWED for mail in mails):
        verdict.owed.append(subject)
    decided = [mail for mail in mails if mail.status in DECIDED]
    if total == 0 and not decided and not aside:
        verdict.lost.append(subject)
    verdict.explained.update(f"{mail.status}: {mail.code}" for mail in decided)
    if aside:
        verdict.explained[f"put aside: {aside}"] += 1
