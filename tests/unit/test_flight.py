"""Single flight: many who want the same, one who fetches it."""

from __future__ import annotations

import asyncio

import pytest

from mailroom.flight import Flight


async def test_work_is_shared_while_it_is_under_way() -> None:
    """All who come in time get one outcome; who comes later, or wants another key, starts afresh."""
    flight, runs = Flight[int](), 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return runs

    assert await asyncio.gather(*(flight.join("a", work) for _ in range(5))) == [1] * 5
    assert await asyncio.gather(flight.join("a", work), flight.join("b", work)) == [3, 3]


async def test_an_error_goes_to_all_and_is_forgotten() -> None:
    """A failure is everybody's, but the next who asks gets a new try."""
    flight = Flight[str]()

    async def fails() -> str:
        await asyncio.sleep(0)
        raise LookupError

    async def works() -> str:
        return "fine"

    failures = await asyncio.gather(flight.join("a", fails), flight.join("a", works), return_exceptions=True)
    assert [type(failure) for failure in failures] == [LookupError, LookupError]
    assert await flight.join("a", works) == "fine"


async def test_who_is_cancelled_takes_nobody_along() -> None:
    """The first one's cancellation does not stop the work that others wait for."""
    flight, gate = Flight[str](), asyncio.Event()

    async def work() -> str:
        await gate.wait()
        return "done"

    first = asyncio.create_task(flight.join("a", work))
    second = asyncio.create_task(flight.join("a", work))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == "done"
    with pytest.raises(asyncio.CancelledError):
        await first
