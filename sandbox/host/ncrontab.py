"""Timer schedules as the Functions host reads them: NCRONTAB, the dialect of the NCrontab library, in UTC.

Six fields (second, minute, hour, day, month, day of week) or five without seconds. What differs from cron: day of month and day of
week must both match, a range that runs backwards is swapped, 7 is no Sunday, a name may be cut anywhere ("f" is February), a step
below 1 is 1. `tests/unit/ncrontab_vectors.json` holds what NCrontab.Signed 3.4.0 makes of 62 expressions.
"""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

# Four hundred years are one whole cycle of the Gregorian calendar; what has not come by then never comes.
_CYCLE = 400
_MONTHS = tuple(calendar.month_name)[1:]
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class BadSchedule(ValueError):
    """The host would refuse to start with this schedule."""


@dataclass(frozen=True, slots=True)
class _Unit:
    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()


_UNITS = (
    _Unit("second", 0, 59),
    _Unit("minute", 0, 59),
    _Unit("hour", 0, 23),
    _Unit("day", 1, 31),
    _Unit("month", 1, 12, _MONTHS),
    _Unit("day of week", 0, 6, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Each field is the ascending tuple of the values that match."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @classmethod
    def parse(cls, expression: str) -> Schedule:
        """Raises BadSchedule."""
        fields = expression.split()
        if len(fields) == 5:
            fields = ["0", *fields]
        if len(fields) != 6:
            raise BadSchedule(f"{expression!r} has {len(fields)} fields; a schedule has six, or five without seconds")
        return cls(*(_field(unit, text) for unit, text in zip(_UNITS, fields, strict=True)))

    def next(self, after: datetime) -> datetime | None:
        """The first occurrence later than `after`, or None where there is none (30 February)."""
        return next(self._occurrences(after), None)

    def frequent(self, now: datetime) -> bool:
        """Less than a minute lies between two occurrences: the host keeps no record of such a timer (`useMonitor`)."""
        some = itertools.islice(self._occurrences(now), 6)
        return any(later - earlier < timedelta(minutes=1) for earlier, later in itertools.pairwise(some))

    def _occurrences(self, after: datetime) -> Iterator[datetime]:
        start = after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        for day in self._dates(start.date()):
            for moment in self._times(start.time() if day == start.date() else time.min):
                yield datetime.combine(day, moment, UTC)

    def _dates(self, first: date) -> Iterator[date]:
        for year in range(first.year, min(first.year + _CYCLE, date.max.year) + 1):
            for month in self.months:
                length = calendar.monthrange(year, month)[1]
                for day in (date(year, month, d) for d in self.days if d <= length):
                    if day >= first and day.isoweekday() % 7 in self.weekdays:
                        yield day

    def _times(self, first: time) -> Iterator[time]:
        for hour in self.hours:
            if hour >= first.hour:
                for minute in self.minutes:
                    if (hour, minute) >= (first.hour, first.minute):
                        yield from (t for t in (time(hour, minute, second) for second in self.seconds) if t >= first)


def _field(unit: _Unit, text: str) -> tuple[int, ...]:
    """A comma that leads is part of the first item, and so an error; one that trails leaves an empty item, an error too."""
    items = text.split(",") if text.find(",") > 0 else [text]
    return tuple(sorted({value for item in items for value in _item(unit, item)}))


def _item(unit: _Unit, text: str) -> range:
    """`*`, `5`, `5-10` or a name, each with or without `/step`. A single value with a step runs on to the last one."""
    span, slash, step_text = text.partition("/") if text.find("/") > 0 else (text, "", "")
    step = max(1, _number(step_text)) if slash else 1
    if span == "*":
        return range(unit.first, unit.last + 1, step)
    if span.find("-") > 0:
        low, _, high = span.partition("-")
        first, last = sorted((_value(unit, low), _value(unit, high)))
    else:
        first = _value(unit, span)
        last = unit.last if slash else first
    return range(first, last + 1, step)


def _value(unit: _Unit, text: str) -> int:
    if text[:1].isdigit():
        value = _number(text)
    elif found := [i for i, name in enumerate(unit.names) if text and name.lower().startswith(text.lower())]:
        value = found[0] + unit.first
    else:
        raise BadSchedule(f"{text!r} is no {unit.name}")
    if not unit.first <= value <= unit.last:
        raise BadSchedule(f"{text!r} is no {unit.name}: it must be from {unit.first} to {unit.last}")
    return value


def _number(text: str) -> int:
    """.NET's int.Parse: ASCII digits with a sign, nothing else."""
    if not (text.isascii() and text.removeprefix("-" if text.startswith("-") else "+").isdigit()):
        raise BadSchedule(f"{text!r} is no number")
    return int(text)
