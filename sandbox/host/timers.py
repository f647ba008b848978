"""The timer trigger, as Microsoft.Azure.WebJobs.Extensions.Timers has it (TimerListener, ScheduleMonitor).

Of all hosts on one storage only the holder of a timer's lock runs it. What ran last and what comes next is a blob; a host that finds
`Next` in the past runs the function at once, as past due. Runs never overlap, and a failed run is not repeated before the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from azure.functions.timer import TimerRequest

from sandbox.host.blobs import HostBlobs
from sandbox.host.functions import Function
from sandbox.host.listener import happens
from sandbox.host.ncrontab import Schedule
from sandbox.host.storage import StorageFailed

LOCK_SECONDS = 15  # the host takes 60; this is the shortest lease there is, so that a killed worker's timers come back soon
LOCK_POLL = 3.0
NEVER = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger("host")


@dataclass(frozen=True, slots=True)
class Status:
    """`last` is NEVER before the first run."""

    last: datetime
    next: datetime
    updated: datetime

    @classmethod
    def first(cls, schedule: Schedule, now: datetime) -> Status:
        return cls(NEVER, _next(schedule, now), now)

    @classmethod
    def ran(cls, schedule: Schedule, at: datetime) -> Status:
        return cls(at, _next(schedule, at), at)

    @classmethod
    def read(cls, body: bytes) -> Status:
        values = json.loads(body)
        return cls(*(datetime.fromisoformat(values[name]) for name in ("Last", "Next", "LastUpdated")))

    def written(self) -> dict[str, str]:
        return {"Last": self.last.isoformat(), "Next": self.next.isoformat(), "LastUpdated": self.updated.isoformat()}

    def checked(self, schedule: Schedule, now: datetime) -> Status:
        """As it is; or started afresh, so that it is not past due, where another schedule wrote it."""
        since = self.last if self.last > NEVER else self.updated
        expected = _next(schedule, since)
        if self.next == expected:
            return self
        return Status.first(schedule, now if now > expected else since)


@dataclass(slots=True)
class TimerListener:
    """`lock` and `record` name blobs. `monitor` says that runs are recorded: `useMonitor`, and no less than a minute apart."""

    function: Function
    schedule: Schedule
    blobs: HostBlobs
    lock: str
    record: str
    monitor: bool
    timeout: float | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _stopped: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Until it is stopped; a run under way is awaited."""
        while not self._stopped:
            self._wake.clear()
            try:
                if lease := await self.blobs.lease(self.lock, LOCK_SECONDS):
                    await self._run_while_held(lease)
            except (httpx.TransportError, StorageFailed) as error:
                _log.warning("the timer %s cannot reach storage: %s", self.function.name, error or type(error).__name__)
            await happens(self._wake, LOCK_POLL)

    async def _run_while_held(self, lease: str) -> None:
        holding = asyncio.create_task(self._hold(lease))
        try:
            await self._keep_time()
        finally:
            holding.cancel()
            await asyncio.wait({holding})
            await self.blobs.release(self.lock, lease)

    async def _hold(self, lease: str) -> None:
        """Wakes the timer, so that it leaves, when the lock is lost."""
        try:
            while True:
                await asyncio.sleep(LOCK_SECONDS / 3)
                if not await self.blobs.renew(self.lock, lease):
                    return
        finally:
            self._wake.set()

    async def _keep_time(self) -> None:
        status = await self._status()
        at_once = past_due = self.monitor and self.now() > status.next
        at_once = at_once or bool(self.function.trigger.get("runOnStartup"))
        while at_once or not await happens(self._wake, (status.next - self.now()).total_seconds()):
            at = self.now() if at_once else max(self.now(), status.next)
            await self._call(status, past_due)
            status = Status.ran(self.schedule, at)
            await self._save(status)
            at_once = past_due = False

    async def _status(self) -> Status:
        """The recorded one, else a first one, which is recorded before anything runs so that nothing is missed from now on."""
        body = await self.blobs.read(self.record) if self.monitor else None
        known = Status.read(body) if body else None
        status = known.checked(self.schedule, self.now()) if known else Status.first(self.schedule, self.now())
        if status != known:
            await self._save(status)
        return status

    async def _save(self, status: Status) -> None:
        """Without a record the run would only be repeated by the next host, so a failure stops nothing."""
        if self.monitor:
            try:
                await self.blobs.write(self.record, json.dumps(status.written()).encode())
            except (httpx.TransportError, StorageFailed) as error:
                _log.warning("the run of %s could not be recorded: %s", self.function.name, error or type(error).__name__)

    async def _call(self, status: Status, past_due: bool) -> None:
        known: dict[str, Any] = status.written() if self.monitor else {}
        request = TimerRequest(past_due=past_due, schedule_status=known, schedule={"AdjustForDST": True})
        with contextlib.suppress(Exception):  # `invoke` has logged it; the next occurrence comes as it would
            await self.function.invoke(request, self.timeout)


def _next(schedule: Schedule, after: datetime) -> datetime:
    return schedule.next(after) or datetime.max.replace(tzinfo=UTC)
