"""NCRONTAB against what the Functions host's own library makes of the same expressions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.host.ncrontab import BadSchedule, Schedule

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "ncrontab_vectors.json").read_text())["vectors"]
VALID = [v for v in VECTORS if v["valid"]]
# The table lists six runs, fewer where they lie further ahead than this.
HORIZON = timedelta(days=9 * 365)


def runs(schedule: Schedule, after: datetime, most: int) -> list[datetime]:
    found: list[datetime] = []
    moment = schedule.next(after)
    while moment is not None and len(found) < most and moment < after + HORIZON:
        found.append(moment)
        moment = schedule.next(moment)
    return found


@pytest.mark.parametrize("vector", VALID, ids=[repr(v["expression"]) for v in VALID])
def test_the_same_runs_as_the_host(vector: dict[str, Any]) -> None:
    """Every expression that the host takes runs when the host would run it."""
    schedule = Schedule.parse(vector["expression"])
    for run in vector["runs"]:
        expected = [datetime.fromisoformat(moment) for moment in run["next"]]
        assert runs(schedule, datetime.fromisoformat(run["after"]), 6) == expected


@pytest.mark.parametrize("expression", [v["expression"] for v in VECTORS if not v["valid"]], ids=repr)
def test_what_the_host_refuses(expression: str) -> None:
    """Every expression that the host does not take is refused."""
    with pytest.raises(BadSchedule):
        Schedule.parse(expression)


@pytest.mark.parametrize("expression", [",1 * * * * *", "1, * * * * *", "/5 * * * * *", "*/x * * * * *", "1- * * * * *", "٣ * * * * *"])
def test_half_written_fields(expression: str) -> None:
    """A field with a part missing or written in other digits is refused, not guessed."""
    with pytest.raises(BadSchedule):
        Schedule.parse(expression)


def test_a_day_that_never_comes() -> None:
    """30 February has no next run, and finding that out ends."""
    assert Schedule.parse("0 0 0 30 2 *").next(datetime(2026, 11, 24, tzinfo=UTC)) is None


def test_only_frequent_timers_go_unrecorded() -> None:
    """Less than a minute between two runs makes a timer frequent; a minute does not."""
    now = datetime(2026, 11, 24, 3, 17, 42, tzinfo=UTC)
    assert Schedule.parse("*/30 * * * * *").frequent(now)
    assert Schedule.parse("0,59 0 0 * * *").frequent(now)
    assert not Schedule.parse("30 * * * * *").frequent(now)
    assert not Schedule.parse("0 0 0 30 2 *").frequent(now)


items = st.sampled_from(["*", "*/7", "0", "5", "3-9", "9-3", "2/3", "1,4", "6", "1-5/2"])


@given(st.lists(items, min_size=3, max_size=3), st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)))
def test_runs_ascend_and_match(fields: list[str], after: datetime) -> None:
    """Whatever the schedule, its runs lie after the given moment, ascend, and fall on matching seconds, minutes and hours."""
    schedule = Schedule.parse(" ".join([*fields, "* * *"]))
    moments = [after.replace(tzinfo=UTC), *runs(schedule, after.replace(tzinfo=UTC), 4)]
    assert all(earlier < later for earlier, later in pairwise(moments))
    for moment in moments[1:]:
        assert moment.second in schedule.seconds
        assert moment.minute in schedule.minutes
        assert moment.hour in schedule.hours
