"""A slice in our hands, and until when."""

from __future__ import annotations

from dataclasses import dataclass

from mailroom.model.account import Account, Timing
from mailroom.model.slice import Slice

MARGIN = 2.0  # seconds: storage's clock has whole seconds, and a worker may pause between fence and call


@dataclass(frozen=True, slots=True)
class Claim:
    """`before` is how the slice stood, `fence` the monotonic time by which the last call must have begun, `at_once` how many requests may
    be in flight, `unasked` those of its mails that can't be asked for, though others of the account can.
    """

    account: Account
    before: Slice
    ours: Slice
    fence: float
    at_once: int
    unasked: frozenset[int] = frozenset()

    @property
    def mine(self) -> list[int]:
        """The mails that this claim took: those that were due."""
        pairs = enumerate(zip(self.before.mails, self.ours.mails, strict=True))
        return [at for at, (old, new) in pairs if new.attempt > old.attempt]

    def can_ask(self, at: int) -> bool:
        return self.account.can_be_asked and at not in self.unasked

    @property
    def recipients(self) -> int:
        """Of those mails."""
        return sum(self.ours.mails[at].recipients for at in self.mine)


def fence(started: float, timing: Timing) -> float:
    """Of a claim that was asked for at that monotonic time."""
    return started + timing.claim - timing.call - MARGIN
