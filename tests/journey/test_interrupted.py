"""Functions that are killed in the middle of sending or receiving: what they had in hand is finished by the next ones, once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sandbox.accounts import Pace
from sandbox.host.queues import Queue
from sandbox.host.storage import Storage
from tests.journey.own_inbox import Inbox
from tests.journey.own_town import EVERY_SECOND, Functions, OwnTown, new_subject, own_town
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PACE = Pace(sweep=EVERY_SECOND, sync=EVERY_SECOND, claim=7, call=4, grace=1)
LEASE = 4.0  # seconds, instead of the ten minutes after which Azure gives a dead worker's message to another one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnTown]:
    async with own_town(tmp_path_factory.mktemp("interrupted")) as town:
        yield town


def mail(town: OwnTown, subject: str, **more: Any) -> dict[str, Any]:
    return {"account": town.billing, "to": ["ann@example.com"], "subject": subject, "text": "Hello"} | more


async def killed_at(town: OwnTown, functions: Functions, hits: int) -> None:
    """Once so many requests hang."""
    await until(lambda: town.struck() >= hits)
    await functions.kill()
    town.services.faults.clear()


async def test_a_mail_in_the_middle_of_sending(town: OwnTown) -> None:
    """Graph took three mails and hangs when the functions die: one whose client asks again, one left to the sweep, one from the queue.

    All end as sent, and none is sent twice.
    """
    asked, left, queued = (new_subject() for _ in range(3))
    hang = {"service": "graph", "path": "sendMail", "answer": "hang", "after_accepting": True, "times": 3}
    town.services.faults.add(hang)
    async with town.functions(PACE, lease=LEASE) as functions:
        await Queue(Storage(town.services.storage, town.http), "mail-outbox").put(_base64(mail(town, queued)))
        await until(lambda: town.struck() == 1)
        requests = [asyncio.create_task(functions.send(**mail(town, subject, id=subject.replace(" ", "")))) for subject in (asked, left)]
        await killed_at(town, functions, 3)
        assert all(isinstance(lost, Exception) for lost in await asyncio.gather(*requests, return_exceptions=True))
    async with town.functions(PACE, lease=LEASE) as functions:
        assert (await functions.mail(left.replace(" ", "")))["status"] == "sending"  # as the dead ones left it
        again = await functions.send(**mail(town, asked, id=asked.replace(" ", "")))
        assert (again.status_code, again.json()["id"]) == (202, asked.replace(" ", ""))
        for subject in (asked, left):
            assert (await functions.settled(subject.replace(" ", "")))["status"] == "sent"
        await until(lambda: town.copies(queued))
        assert [await town.copies(subject) for subject in (asked, left, queued)] == [[1], [1], [1]]


async def test_a_mail_in_the_middle_of_receiving(town: OwnTown) -> None:
    """Two mails came; the functions die while they fetch them. The next ones store and tell of both."""
    first, second, inbox = new_subject(), new_subject(), Inbox(town)
    async with town.functions(PACE, lease=LEASE) as functions:
        await inbox.begins()
        town.services.faults.add({"service": "graph", "path": "$value", "answer": "hang"})
        for subject in (first, second):
            await town.arrives(subject)
        await killed_at(town, functions, 1)
    async with town.functions(PACE, lease=LEASE):
        for subject in (first, second):
            await inbox.event(subject)
        await inbox.goes_on()
        assert [len({event["id"] for event in await inbox.of(subject)}) for subject in (first, second)] == [1, 1]


def _base64(body: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()
