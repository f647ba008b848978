"""The activity log: one JSON line an event, what surrounds it, and the ids of whoever answered last."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from mailroom.events import answered, answered_by, during, record


@dataclass
class Context:
    invocation_id: str
    trace_context: Any = None
    function_name: str = "deliver_mail"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.INFO, "mailroom")
    return lambda: [json.loads(line.getMessage()) for line in caplog.records]


def test_an_event_is_one_line_of_json(caplog: pytest.LogCaptureFixture) -> None:
    """What is not known is left out; a warning is one for the log, too."""
    caplog.set_level(logging.INFO, "mailroom")
    record("mail.refused", warn=True, account="hr", code=None, detail="two\nlines")
    [line] = caplog.records
    assert (line.levelname, "\n" in line.getMessage()) == ("WARNING", False)
    assert json.loads(line.getMessage()) == {"event": "mail.refused", "account": "hr", "detail": "two\nlines"}


async def test_invocations_at_the_same_time_are_told_apart(told: Callable[[], list[dict[str, Any]]]) -> None:
    """Their tasks and threads belong to them; after the last one there is none."""

    async def invocation(name: str) -> None:
        with during(Context(name)):
            await asyncio.sleep(0)
            await asyncio.gather(asyncio.to_thread(record, "in.thread", of=name), asyncio.create_task(in_task(name)))

    async def in_task(name: str) -> None:
        record("in.task", of=name)

    await asyncio.gather(invocation("a"), invocation("b"))
    record("outside")
    *inside, outside = told()
    assert len(inside) == 4
    assert all(one["of"] == one["invocation"] and one["function"] == "deliver_mail" and "traceparent" not in one for one in inside)
    assert outside == {"event": "outside"}


def test_a_trace_is_told_where_the_host_has_one(told: Callable[[], list[dict[str, Any]]]) -> None:
    """As Azure's workers hand it over; an empty one is none."""
    for parent in ("00-1-2-01", ""):
        with during(Context("a", SimpleNamespace(trace_parent=parent))):
            record("here")
    assert [one.get("traceparent") for one in told()] == ["00-1-2-01", None]


async def test_the_last_answer_names_itself() -> None:
    """Also from a thread; what one answer says does not stay behind when the next one is silent, and nobody outside is told."""
    answered(trace_id="nobody listens")
    with answered_by() as outer:
        with answered_by() as inner:
            await asyncio.to_thread(answered, trace_id="1", correlation_id=None)
            assert inner == {"trace_id": "1"}
            answered(correlation_id="x" * 500)
        assert inner == {"correlation_id": "x" * 100}
        assert outer == {}
