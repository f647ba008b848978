"""A lane: the pace of one mailbox on one transport, shared by all instances. Pure; `storage/lanes.py` keeps it.

The rate is kept as a theoretical arrival time, the generic cell rate algorithm of ATM (ITU-T I.371): each mail moves it by one
interval, and a mail may go when it lies in the past. While single mails come, a fifth of the rate is theirs alone and they share the
rest, up to five seconds ahead of their slot; where none came for a minute, batches have it all.
Permits count the requests in flight (on Graph 4 for each app and mailbox) and expire with their claims. Who wants several and finds fewer
gets one, and goes on with one request at a time: so a batch never waits for a moment at which nobody else is there.
Where a mailbox may have only so many recipients in 24 hours, they are counted by the hour; an hour counts until a day after its end.
"""

from __future__ import annotations

import msgspec

from mailroom.errors import NotSent

SINGLES_SHARE = 0.2
SINGLES_AHEAD = 5.0
SINGLES_SEEN = 60.0
CROWDED = 0.5
THROTTLED = "throttled"
HOUR = 3600
DAY = 24 * HOUR


class Permit(msgspec.Struct, frozen=True):
    """`weight` is for how many requests at a time."""

    nonce: str
    weight: int
    until: float


class Lane(msgspec.Struct, frozen=True):
    """Times are seconds since the epoch on storage's clock."""

    shared: float = 0.0
    singles: float = 0.0
    not_before: float = 0.0
    permits: tuple[Permit, ...] = ()
    hours: tuple[tuple[int, int], ...] = ()  # the hour since the epoch, and its recipients; the oldest first
    why: str = ""  # the code of what made it rest until `not_before`

    def take(
        self, now: float, rate: float, mails: int, permit: Permit, *, single: bool, permits: int = 4, recipients: int = 0, a_day: int = 0
    ) -> Lane | float:
        """The lane with the permit taken and its slots used, or the time at which to come again."""
        if a_day:
            room = self._room_at(now, recipients, a_day)
            taken = self.take(now, rate, mails, permit, single=single, permits=permits)
            return max(room, taken) if isinstance(taken, float) else taken._counted(now, recipients) if room <= now else room
        joined = self.not_before if self.not_before > now else self._joined(now, permit, permits)
        if isinstance(joined, float):
            return joined
        if single and self.singles <= now:
            own = max(self.singles, now) + mails * 60 / (rate * SINGLES_SHARE)
            return msgspec.structs.replace(joined, singles=own)
        free_at = self.shared - (SINGLES_AHEAD if single else 0.0)
        if free_at > now:
            return free_at
        left = 1 - SINGLES_SHARE if self.singles > now - SINGLES_SEEN else 1.0
        shared = max(self.shared, now) + mails * 60 / (rate * left)
        return msgspec.structs.replace(joined, shared=shared)

    def join(self, now: float, permit: Permit, permits: int = 4) -> Lane | float:
        """The same for requests that send nothing: they need no slot, and what makes sending rest is no reason not to read."""
        if self.not_before > now and self.why == THROTTLED:
            return self.not_before
        return self._joined(now, permit, permits)

    def _joined(self, now: float, permit: Permit, permits: int) -> Lane | float:
        alive = tuple(p for p in self.permits if p.until > now)
        free = permits - sum(p.weight for p in alive)
        if free < 1:
            return now + CROWDED
        granted = permit if permit.weight <= free else msgspec.structs.replace(permit, weight=1)
        return msgspec.structs.replace(self, permits=(*alive, granted))

    def _room_at(self, now: float, recipients: int, a_day: int) -> float:
        """When so many fit. What would never fit goes once nothing else counts."""
        alive = [(hour, count) for hour, count in self.hours if _ends(hour) > now]
        used, room = sum(count for _, count in alive), now
        for hour, count in alive:
            if used + recipients <= a_day:
                break
            used, room = used - count, _ends(hour)
        return room

    def _counted(self, now: float, recipients: int) -> Lane:
        this = int(now // HOUR)
        hours = dict(one for one in self.hours if _ends(one[0]) > now)
        hours[this] = hours.get(this, 0) + recipients
        return msgspec.structs.replace(self, hours=tuple(sorted(hours.items())))

    def _uncounted(self, recipients: int) -> Lane:
        """Without so many of those that were counted last."""
        hours = list(self.hours)
        while recipients and hours:
            hour, count = hours.pop()
            if count > recipients:
                hours.append((hour, count - recipients))
            recipients -= min(count, recipients)
        return msgspec.structs.replace(self, hours=tuple(hours))

    def permit(self, nonce: str) -> Permit | None:
        return next((p for p in self.permits if p.nonce == nonce), None)

    def release(self, nonce: str, unsent: int = 0) -> Lane:
        """Without the permit, and without the recipients that it was counted for and nothing was sent to; twice is once."""
        if self.permit(nonce) is None:
            return self
        return msgspec.structs.replace(self._uncounted(unsent), permits=tuple(p for p in self.permits if p.nonce != nonce))

    def extend(self, nonce: str, until: float) -> Lane:
        return msgspec.structs.replace(
            self, permits=tuple(msgspec.structs.replace(p, until=until) if p.nonce == nonce else p for p in self.permits)
        )

    def pause(self, until: float, why: str = "") -> Lane:
        if until <= self.not_before:
            return self
        return msgspec.structs.replace(self, not_before=until, why=why)

    def reason(self, now: float, until: float) -> NotSent:
        """Why a mail that `take` put off has to wait until then."""
        by_itself = "It goes by itself then."
        if until == self.not_before > now:
            after = f" after {self.why}" if self.why else ""
            return NotSent("lane_paused", f"The mailbox rests{after}.", f"{by_itself} The account's events tell more.")
        if until in {_ends(hour) for hour, _ in self.hours}:
            return NotSent("lane_spent", "It has had its recipients of 24 hours.", f"{by_itself} Raise `recipients_a_day` if it may.")
        return NotSent("lane_busy", "Other mails of this mailbox are ahead.", f"{by_itself} Raise its `rate` if it may send faster.")


def _ends(hour: int) -> float:
    """From when on nothing of that hour lies within 24 hours."""
    return float((hour + 1) * HOUR + DAY)
