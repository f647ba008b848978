"""The queue trigger, as Microsoft.Azure.WebJobs.Extensions.Storage.Queues has it (QueueListener, QueueProcessor).

A message is leased for ten minutes and the lease renewed when half is over. Success deletes it. Failure shows it again after
`visibilityTimeout`, or moves it to `<queue>-poison` once its dequeue count has reached `maxDequeueCount`. A message that arrives with
a higher count, because its workers died, is moved without a call; so is text that is not base64 where base64 is expected.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from azure.functions.queue import QueueMessage

from sandbox.host.functions import Function
from sandbox.host.queues import Message, Queue
from sandbox.host.settings import Queues
from sandbox.host.storage import StorageFailed

LEASE = 600.0
POISON = "-poison"
LONGEST_NAME = 63
SHORTEST_POLL = 0.1
RENEWAL_RETRY = 60.0  # at the earliest, when a renewal failed

_log = logging.getLogger("host")


@dataclass(slots=True)
class QueueListener:
    function: Function
    queue: Queue
    poison: Queue | None
    settings: Queues
    timeout: float | None = None
    lease: float = LEASE
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Until it is stopped; then it waits for the functions that still run."""
        pauses = Backoff(self.settings.max_polling_interval)
        while not self._stopping.is_set():
            messages = await self._receive()
            for message in messages:
                self._start(message)
            if messages:
                pauses.reset()
                await self._until_there_is_room()
            else:
                await happens(self._stopping, pauses.next())
        if self._running:
            await asyncio.wait(self._running)

    async def _receive(self) -> list[Message]:
        try:
            return await self.queue.get(self.settings.batch_size, self.lease)
        except (httpx.TransportError, StorageFailed) as error:
            _log.warning("%s could not be polled: %s", self.queue.name, error or type(error).__name__)
            return []

    def _start(self, message: Message) -> None:
        task = asyncio.create_task(self._work(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _until_there_is_room(self) -> None:
        stop = asyncio.create_task(self._stopping.wait())
        while len(self._running) > self.settings.new_batch_threshold and not stop.done():
            await asyncio.wait({*self._running, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    async def _work(self, message: Message) -> None:
        """Where storage fails, the message comes back when its lease ends."""
        try:
            await self._process(Held(self.queue, message, message.receipt), message)
        except (httpx.TransportError, StorageFailed) as error:
            _log.warning("%s in %s is left to its lease: %s", message.id, self.queue.name, error or type(error).__name__)

    async def _process(self, held: Held, message: Message) -> None:
        body = decoded(message.text, self.settings)
        if body is None or message.dequeue_count > self.settings.max_dequeue_count:
            await self._to_poison(held, message)
            return
        async with held.renewed(self.lease):
            good = await self._called(message, body)
        if good:
            await held.delete()
        elif self.poison is not None and message.dequeue_count < self.settings.max_dequeue_count:
            await held.show_in(self.settings.visibility_timeout)
        else:
            await self._to_poison(held, message)

    async def _called(self, message: Message, body: bytes) -> bool:
        argument = QueueMessage(
            id=message.id,
            body=body,
            dequeue_count=message.dequeue_count,
            expiration_time=message.expires,
            insertion_time=message.inserted,
            time_next_visible=message.visible_again,
            pop_receipt=message.receipt,
        )
        try:
            await self.function.invoke(argument, self.timeout)
        except Exception:  # noqa: BLE001 - whatever a function raises is one failed attempt; `invoke` has logged it
            return False
        return True

    async def _to_poison(self, held: Held, message: Message) -> None:
        """Copied, then deleted: a crash in between leaves it in both. Without a poison queue it stays out of sight until its lease ends."""
        if self.poison is None:
            return
        _log.warning("%s, dequeued %d times, goes to %s", message.id, message.dequeue_count, self.poison.name)
        await self.poison.create()
        await self.poison.put(message.text)
        await held.delete()


@dataclass(slots=True)
class Held:
    """A message under lease, with its newest receipt; None once it is lost to somebody else."""

    queue: Queue
    message: Message
    receipt: str | None

    @asynccontextmanager
    async def renewed(self, lease: float) -> AsyncIterator[None]:
        """A renewal under way is awaited, not cut off: with a receipt that storage has already changed nothing could be deleted."""
        over = asyncio.Event()
        renewal = asyncio.create_task(self._renew(lease, over))
        try:
            yield
        finally:
            over.set()
            await renewal

    async def _renew(self, lease: float, over: asyncio.Event) -> None:
        wait = lease / 2
        while self.receipt is not None and not await happens(over, wait):
            try:
                self.receipt = await self.queue.hide(self.message, self.receipt, lease)
                wait = lease / 2
            except (httpx.TransportError, StorageFailed) as error:
                _log.warning("the lease of %s could not be renewed: %s", self.message.id, error or type(error).__name__)
                wait = max(min(RENEWAL_RETRY, lease / 10), wait / 2)

    async def show_in(self, seconds: float) -> None:
        if self.receipt is not None:
            self.receipt = await self.queue.hide(self.message, self.receipt, seconds)

    async def delete(self) -> None:
        if self.receipt is not None:
            await self.queue.delete(self.message, self.receipt)


class Backoff:
    """Pauses after empty polls: exponential, 20 % either way, from the shortest to the longest poll."""

    def __init__(self, longest: float, spread: Callable[[], float] = lambda: random.uniform(0.8, 1.2)) -> None:
        self._longest = longest
        self._spread = spread
        self._empty = 0

    def reset(self) -> None:
        self._empty = 0

    def next(self) -> float:
        grown: float = SHORTEST_POLL * (2**self._empty - 1) * self._spread()
        self._empty = min(self._empty + 1, 30)
        return min(self._longest, SHORTEST_POLL + grown)


def decoded(text: str, settings: Queues) -> bytes | None:
    """The body for the function; None where base64 is expected and this is none."""
    if settings.encoding == "none":
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def poison_name(queue: str) -> str | None:
    """None for a poison queue itself, and where the name would get too long."""
    name = queue + POISON
    return None if queue.endswith(POISON) or len(name) > LONGEST_NAME else name


async def happens(event: asyncio.Event, within: float) -> bool:
    """Waits for the event, at most so many seconds, and says whether it came."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within)
    return event.is_set()
