"""The local host's timer trigger against Azurite, held to what Microsoft's listener does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import azure.functions as func
import httpx
import pytest

from sandbox.azurite import Azurite
from sandbox.host.blobs import HostBlobs
from sandbox.host.functions import Function
from sandbox.host.ncrontab import Schedule
from sandbox.host.storage import Storage
from sandbox.host.timers import NEVER, Status, TimerListener
from tests.waiting import until

HOURLY = Schedule.parse("0 0 * * * *")
EVERY_SECOND = Schedule.parse("* * * * * *")
NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


class Bell:
    def __init__(self, *, fails: bool = False, takes: float = 0.0) -> None:
        self.rung: list[func.TimerRequest] = []
        self.running = 0
        self.most = 0
        self._fails = fails
        self._takes = takes

    async def __call__(self, timer: func.TimerRequest) -> None:
        self.rung.append(timer)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self._takes)
        self.running -= 1
        if self._fails:
            raise ValueError("on purpose")


@pytest.fixture
async def blobs(azurite: Azurite, client: httpx.AsyncClient) -> HostBlobs:
    made = HostBlobs(Storage(azurite.connection_string, client))
    await made.create()
    return made


@asynccontextmanager
async def ticking(bell: Bell, blobs: HostBlobs, name: str, schedule: Schedule, **how: object) -> AsyncIterator[None]:
    trigger = {"type": "timerTrigger", "name": "timer", **how}
    function = Function(name, trigger, bell.__call__, Path())
    monitor = not schedule.frequent(NOON)
    listener = TimerListener(function, schedule, blobs, f"locks/{name}", f"timers/{name}/status", monitor)
    running = asyncio.create_task(listener.run())
    try:
        yield
    finally:
        listener.stop()
        await running


async def recorded(blobs: HostBlobs, name: str) -> Status:
    return Status.read(await until(lambda: blobs.read(f"timers/{name}/status")))


async def overdue(blobs: HostBlobs, name: str) -> Status:
    """A record of a host that went down three hours ago."""
    status = Status.ran(HOURLY, datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3))
    await blobs.write(f"timers/{name}/status", json.dumps(status.written()).encode())
    return status


async def test_a_new_timer_waits_for_its_time(blobs: HostBlobs, place: str) -> None:
    """The first host of a timer records when it will run, and does not run it now."""
    bell = Bell()
    async with ticking(bell, blobs, place, HOURLY):
        status = await recorded(blobs, place)
    assert bell.rung == []
    assert status.last == NEVER
    assert status.next == HOURLY.next(status.updated)


async def test_a_run_that_was_missed_is_made_up_for(blobs: HostBlobs, place: str) -> None:
    """A host that finds the next run in the past runs once, at once, as past due, and records it."""
    before = await overdue(blobs, place)
    bell = Bell()
    async with ticking(bell, blobs, place, HOURLY):
        await until(lambda: bool(bell.rung))
    [request] = bell.rung
    assert request.past_due
    assert datetime.fromisoformat(request.schedule_status["Next"]) == before.next
    after = await recorded(blobs, place)
    assert after.last > before.next
    assert after.next == HOURLY.next(after.last)


async def test_a_failed_run_is_not_repeated(blobs: HostBlobs, place: str) -> None:
    """A run that fails is recorded like any other; the next one comes at its time."""
    await overdue(blobs, place)
    bell = Bell(fails=True)
    async with ticking(bell, blobs, place, HOURLY):
        await until(lambda: bool(bell.rung))
        await asyncio.sleep(0.3)
    assert len(bell.rung) == 1
    assert (await recorded(blobs, place)).next > datetime.now(UTC)


async def test_on_startup(blobs: HostBlobs, place: str) -> None:
    """`runOnStartup` runs the function when the host starts, and that is not past due."""
    bell = Bell()
    async with ticking(bell, blobs, place, HOURLY, runOnStartup=True):
        await until(lambda: bool(bell.rung))
    assert [request.past_due for request in bell.rung] == [False]


async def test_one_of_several_hosts(blobs: HostBlobs, place: str) -> None:
    """Of two hosts only the holder of the timer's lock runs it; when it stops the other takes over."""
    one, other = Bell(), Bell()
    async with ticking(other, blobs, place, EVERY_SECOND):
        await until(lambda: bool(other.rung))
        async with ticking(one, blobs, place, EVERY_SECOND):
            await asyncio.sleep(1.2)
        assert len(other.rung) >= 2
    assert one.rung == []
    async with ticking(one, blobs, place, EVERY_SECOND):
        await until(lambda: bool(one.rung))


async def test_runs_do_not_overlap(blobs: HostBlobs, place: str) -> None:
    """A run that takes longer than the interval is followed by the next one, never joined by it."""
    bell = Bell(takes=1.1)
    async with ticking(bell, blobs, place, EVERY_SECOND):
        await until(lambda: len(bell.rung) == 2)
    assert bell.most == 1
    assert bell.running == 0
    assert not any(request.past_due for request in bell.rung)


async def test_frequent_timers_leave_no_record(blobs: HostBlobs, place: str) -> None:
    """Less than a minute between two runs is not worth a record, nor making up for."""
    bell = Bell()
    async with ticking(bell, blobs, place, EVERY_SECOND):
        await until(lambda: bool(bell.rung))
    assert await blobs.read(f"timers/{place}/status") is None
    assert bell.rung[0].schedule_status == {}


def test_another_schedule_starts_afresh() -> None:
    """What another schedule recorded makes nothing past due; what the same one recorded is kept."""
    daily = Schedule.parse("0 0 6 * * *")
    known = Status.ran(daily, NOON)
    assert known.checked(daily, NOON + timedelta(days=3)) == known
    assert known.checked(HOURLY, NOON + timedelta(minutes=5)) == Status(NEVER, NOON + timedelta(hours=1), NOON)
    late = NOON + timedelta(hours=5, minutes=5)
    assert known.checked(HOURLY, late) == Status(NEVER, NOON + timedelta(hours=6), late)


def test_a_status_survives_its_blob() -> None:
    """What is written is read back, before the first run too."""
    for status in (Status.first(HOURLY, NOON), Status.ran(HOURLY, NOON + timedelta(microseconds=7))):
        assert Status.read(json.dumps(status.written()).encode()) == status
