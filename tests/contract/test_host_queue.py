"""The local host's queue trigger against Azurite, held to what Microsoft's listener does."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import azure.functions as func
import httpx
import pytest

from sandbox.azurite import Azurite
from sandbox.host.functions import Function
from sandbox.host.listener import Backoff, QueueListener, poison_name
from sandbox.host.queues import Message, Queue
from sandbox.host.settings import Queues
from sandbox.host.storage import Storage
from tests.waiting import until

QUICK = Queues(batch_size=4, new_batch_threshold=2, max_dequeue_count=2, max_polling_interval=0.1)


class Desk:
    """A queue trigger's function whose behaviour the test chooses; it remembers what it was called with."""

    def __init__(self, behave: Callable[[func.QueueMessage], object] = lambda message: None) -> None:
        self.calls: list[func.QueueMessage] = []
        self.running = 0
        self.most = 0
        self.called = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self._behave = behave

    async def __call__(self, msg: func.QueueMessage) -> None:
        self.calls.append(msg)
        self.running += 1
        self.most = max(self.most, self.running)
        self.called.set()
        try:
            await self.may_end.wait()
            self._behave(msg)
        finally:
            self.running -= 1


def fail(message: func.QueueMessage) -> None:
    raise ValueError("on purpose")


@pytest.fixture
def queue(azurite: Azurite, client: httpx.AsyncClient, place: str) -> Queue:
    return Queue(Storage(azurite.connection_string, client), place)


@pytest.fixture
def poison(azurite: Azurite, client: httpx.AsyncClient, queue: Queue) -> Queue:
    return Queue(Storage(azurite.connection_string, client), f"{queue.name}-poison")


@asynccontextmanager
async def listening(desk: Desk, queue: Queue, poison: Queue | None, settings: Queues = QUICK, lease: float = 600) -> AsyncIterator[None]:
    function = Function("desk", {"type": "queueTrigger", "name": "msg"}, desk.__call__, Path())
    listener = QueueListener(function, queue, poison, settings, lease=lease)
    running = asyncio.create_task(listener.run())
    try:
        yield
    finally:
        listener.stop()
        await running


async def first(queue: Queue) -> Message:
    """The next message that shows in the queue, looked at without hiding it for long."""
    found: list[Message] = await until(lambda: queue.get(1, 1))
    return found[0]


def text(body: bytes) -> str:
    return base64.b64encode(body).decode()


async def test_a_message_reaches_the_function_once(queue: Queue, poison: Queue) -> None:
    """The function gets body, id, count and times; then the message is gone."""
    await queue.create()
    await queue.put(text(b"\x00 hello \xff"))
    desk = Desk()
    async with listening(desk, queue, poison, lease=1):
        await until(lambda: bool(desk.calls))
    [call] = desk.calls
    assert call.get_body() == b"\x00 hello \xff"
    assert call.id
    assert call.pop_receipt
    assert call.dequeue_count == 1
    assert call.insertion_time.tzinfo is not None
    assert call.expiration_time.year == 9999
    await asyncio.sleep(1.2)
    assert await queue.get(1, 1) == []


async def test_no_queue_yet(queue: Queue, poison: Queue) -> None:
    """A listener waits for its queue to be made by whoever puts the first message."""
    desk = Desk()
    async with listening(desk, queue, poison):
        await asyncio.sleep(0.2)
        await queue.create()
        await queue.put(text(b"now"))
        await until(lambda: bool(desk.calls))


async def test_failures_end_in_the_poison_queue(queue: Queue, poison: Queue) -> None:
    """A failed message comes again until its dequeue count reaches the maximum, then its raw text lies in the poison queue."""
    await queue.create()
    await queue.put(text(b"bad"))
    desk = Desk(fail)
    async with listening(desk, queue, poison):
        moved = await first(poison)
    assert [call.dequeue_count for call in desk.calls] == [1, 2]
    assert moved.text == text(b"bad")
    assert moved.expires.year == 9999
    assert await queue.get(1, 1) == []


async def test_a_failed_message_stays_away_for_the_visibility_timeout(queue: Queue, poison: Queue) -> None:
    """`visibilityTimeout` is the pause after a failure."""
    await queue.create()
    await queue.put(text(b"bad"))
    desk = Desk(fail)
    async with listening(desk, queue, poison, Queues(visibility_timeout=60, max_polling_interval=0.1)):
        await until(lambda: bool(desk.calls) and not desk.running)
        await asyncio.sleep(0.3)
    assert len(desk.calls) == 1


async def test_workers_that_died_poison_a_message(queue: Queue, poison: Queue) -> None:
    """A message that arrives with a count above the maximum is moved without a call: it never failed, its workers did."""
    await queue.create()
    await queue.put(text(b"unlucky"))
    for _ in range(2):
        [taken] = await queue.get(1, 600)
        await queue.hide(taken, taken.receipt, 0)
    desk = Desk()
    async with listening(desk, queue, poison):
        moved = await first(poison)
    assert moved.text == text(b"unlucky")
    assert desk.calls == []


async def test_text_that_is_not_base64(queue: Queue, poison: Queue) -> None:
    """It is moved as it is, without a call."""
    await queue.create()
    await queue.put('{"not": "base64 <&> ü"}')
    desk = Desk()
    async with listening(desk, queue, poison):
        moved = await first(poison)
    assert moved.text == '{"not": "base64 <&> ü"}'
    assert desk.calls == []


async def test_text_as_it_is(queue: Queue, poison: Queue) -> None:
    """With `messageEncoding: none` the text is the body."""
    await queue.create()
    await queue.put("plain ü")
    desk = Desk()
    async with listening(desk, queue, poison, Queues(encoding="none", max_polling_interval=0.1)):
        await until(lambda: bool(desk.calls))
    assert desk.calls[0].get_body() == "plain ü".encode()


async def test_no_poison_queue(queue: Queue) -> None:
    """Where there is no poison queue a failed message stays out of sight until its lease ends."""
    await queue.create()
    await queue.put(text(b"bad"))
    desk = Desk(fail)
    async with listening(desk, queue, None):
        await until(lambda: bool(desk.calls) and not desk.running)
        await asyncio.sleep(0.3)
    assert len(desk.calls) == 1


def test_which_queues_have_one() -> None:
    """A poison queue has none of its own, and neither has a queue whose poison queue's name would be too long."""
    assert poison_name("mail-outbox") == "mail-outbox-poison"
    assert poison_name("mail-outbox-poison") is None
    assert poison_name("q" * 56) == "q" * 56 + "-poison"
    assert poison_name("q" * 57) is None


async def test_how_many_run_at_once(queue: Queue, poison: Queue) -> None:
    """New messages are fetched when no more than the threshold run: at most batchSize + newBatchThreshold at once."""
    await queue.create()
    for n in range(12):
        await queue.put(text(str(n).encode()))
    desk = Desk()
    desk.may_end.clear()
    async with listening(desk, queue, poison):
        await until(lambda: desk.running == 4)
        await asyncio.sleep(0.3)
        assert desk.most == 4
        desk.may_end.set()
        await until(lambda: len(desk.calls) == 12 and not desk.running)
    assert desk.most <= 6
    assert {call.get_body() for call in desk.calls} == {str(n).encode() for n in range(12)}


async def test_a_long_run_keeps_its_lease(queue: Queue, poison: Queue) -> None:
    """A lease is renewed when half of it is over, and the message still deleted afterwards, though its receipt has changed."""
    await queue.create()
    await queue.put(text(b"long"))
    desk = Desk()
    desk.may_end.clear()
    async with listening(desk, queue, poison, lease=1):
        await until(lambda: bool(desk.calls))
        await asyncio.sleep(1.5)
        assert await queue.get(1, 1) == []
        desk.may_end.set()
        await until(lambda: not desk.running)
    await asyncio.sleep(1.2)
    assert await queue.get(1, 1) == []
    assert len(desk.calls) == 1


async def test_stopping_waits_for_what_runs(queue: Queue, poison: Queue) -> None:
    """Stopping takes no new message and lets the running function end; its message is deleted as always."""
    await queue.create()
    await queue.put(text(b"running"))
    desk = Desk()
    desk.may_end.clear()
    function = Function("desk", {"type": "queueTrigger", "name": "msg"}, desk.__call__, Path())
    listener = QueueListener(function, queue, poison, QUICK, lease=1)
    running = asyncio.create_task(listener.run())
    await desk.called.wait()
    listener.stop()
    await queue.put(text(b"new"))
    await asyncio.sleep(0.2)
    assert not running.done()
    desk.may_end.set()
    await running
    assert (await first(queue)).text == text(b"new")
    assert len(desk.calls) == 1


def test_pauses_grow_to_the_longest_poll() -> None:
    """Empty polls are followed by exponentially longer pauses from 100 ms to `maxPollingInterval`, and a message starts them afresh."""
    pauses = Backoff(2.0, spread=lambda: 1.0)
    assert [pauses.next() for _ in range(7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    pauses.reset()
    assert pauses.next() == pytest.approx(0.1)
    assert all(0.18 <= (one := Backoff(2.0)).next() + one.next() - 0.1 <= 0.22 for _ in range(50))
