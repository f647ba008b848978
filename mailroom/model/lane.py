"""A lane: the pace of one mailbox on one transport, shared by all instances. Pure; `storage/lanes.py` keeps it.

The rate is kept as a theoretical arrival time, the generic cell rate algorithm of ATM (ITU-T I.371): each mail moves it by one
interval, and a mail may go when it lies in the past. While single mails come, a fifth of the rate is theirs alone and they share the
rest, up to five seconds ahead of their slot; where none came for a minute, batches have it all.
Permits count the requests in flight (on Graph 4 for each app and mailbox) and expire with their claims.
"""

from __future__ import annotations

import msgspec

SINGLES_SHARE = 0.2
SINGLES_AHEAD = 5.0
SINGLES_SEEN = 60.0
CROWDED = 0.5


class Permit(msgspec.Struct, frozen=True):
    nonce: str
    weight: int
    until: float


class Lane(msgspec.Struct, frozen=True):
    """Times are seconds since the epoch on storage's clock."""

    shared: float = 0.0
    singles: float = 0.0
    not_before: float = 0.0
    permits: tuple[Permit, ...] = ()

    def take(self, now: float, rate: float, mails: int, permit: Permit, *, single: bool, permits: int = 4) -> Lane | float:
        """The lane with the permit taken and its slots used, or the time at which to come again."""
        if self.not_before > now:
            return self.not_before
        alive = tuple(p for p in self.permits if p.until > now)
        if sum(p.weight for p in alive) + permit.weight > permits:
            return now + CROWDED
        if single and self.singles <= now:
            own = max(self.singles, now) + mails * 60 / (rate * SINGLES_SHARE)
            return msgspec.structs.replace(self, singles=own, permits=(*alive, permit))
        free_at = self.shared - (SINGLES_AHEAD if single else 0.0)
        if free_at > now:
            return free_at
        left = 1 - SINGLES_SHARE if self.singles > now - SINGLES_SEEN else 1.0
        shared = max(self.shared, now) + mails * 60 / (rate * left)
        return msgspec.structs.replace(self, shared=shared, permits=(*alive, permit))

    def release(self, nonce: str) -> Lane:
        return msgspec.structs.replace(self, permits=tuple(p for p in self.permits if p.nonce != nonce))

    def extend(self, nonce: str, until: float) -> Lane:
        return msgspec.structs.replace(
            self, permits=tuple(msgspec.structs.replace(p, until=until) if p.nonce == nonce else p for p in self.permits)
        )

    def pause(self, until: float) -> Lane:
        return msgspec.structs.replace(self, not_before=max(self.not_before, until))
