"""Storage's clock, as far as its answers tell: what all instances of us agree on."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime


class StorageClock:
    """Each answer bounds how far storage's clock is ahead of our monotonic one, for `Date` is cut to the whole second:
    it was not earlier than `Date` when the answer came, and not a second later than it when the request went.

    The bounds close in within a few answers, and a clock that drifts is led back. Before any answer local time has to do.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._ahead: float | None = None
        self._last = ("", 0.0)

    def now(self) -> float:
        return self._wall() if self._ahead is None else self._monotonic() + self._ahead

    def saw(self, date: str | None, sent: float, came: float) -> None:
        """`sent` and `came` are monotonic times of the request and its answer; `date` is the answer's header."""
        if date is None:
            return
        if date != self._last[0]:  # the same second has the same text: parsing costs more than all the rest
            self._last = (date, parsedate_to_datetime(date).timestamp())
        least, most = self._last[1] - came, self._last[1] + 1.0 - sent
        self._ahead = least if self._ahead is None else min(max(self._ahead, least), most)
