"""When a batch shall go: ISO 8601 with its offset, or a local time with the name of its time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mailroom.errors import BadInput

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

LATE = 48 * 3600.0  # a request may be repeated for that long, also when its time has come meanwhile
AHEAD = 366 * 86400.0

EXAMPLE = "Write 2026-12-24T09:00:00+01:00, or 2026-12-24T09:00:00 with time_zone Europe/Berlin."


def seconds(send_at: str, time_zone: str | None, now: float) -> float:
    """Since the epoch. Raises BadInput."""
    when = _moment(_read(send_at), time_zone).timestamp()
    if when < now - LATE:
        raise BadInput("send_at_past", f"{send_at!r} is past.", "Leave send_at out to send at once.", field="send_at")
    if when > now + AHEAD:
        raise BadInput(
            "send_at_too_far", f"{send_at!r} is more than a year ahead.", "Send the batch again when it is nearer.", field="send_at"
        )
    return when


def shown(when: float) -> str:
    """In UTC, as answers tell times."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _read(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput("send_at_invalid", f"{text[:80]!r} is no time.", EXAMPLE, field="send_at") from error
    if "T" not in text.upper() and " " not in text.strip():
        raise BadInput("send_at_invalid", f"{text[:80]!r} has no time of the day.", EXAMPLE, field="send_at")
    return found


def _moment(when: datetime, time_zone: str | None) -> datetime:
    if time_zone is None:
        if when.tzinfo is None:
            raise BadInput("time_zone_missing", f"{when.isoformat()} may be any of many moments.", EXAMPLE, field="send_at")
        return when
    if when.tzinfo is not None:
        raise BadInput("time_zone_twice", "The time has an offset and a time zone.", "Give one of them.", field="time_zone")
    local = when.replace(tzinfo=_zone(time_zone))  # the first of two where the clocks are put back
    if local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) != when:
        what = f"{when.isoformat()} is a time that {time_zone} leaves out, for its clocks are put forward."
        raise BadInput("send_at_skipped", what, "Choose a time an hour later.", field="send_at")
    return local


def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not available_timezones():
            raise BadInput(
                "time_zones_missing", "This machine knows no time zones.", "Give an offset, or install tzdata.", field="time_zone"
            ) from error
        step = "Take a name of the IANA database, such as Europe/Berlin."
        raise BadInput("time_zone_unknown", f"There is no time zone {name[:80]!r}.", step, field="time_zone") from error
