"""What every sender is told, the one mail that each sends, and how it is measured: CPU seconds of its process, and the clock."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

TASK: dict[str, Any] = json.loads(os.environ.get("BENCH_SEND", "{}"))
GRAPH, MAILS, AT_ONCE = TASK.get("graph", ""), TASK.get("mails", 0), TASK.get("at_once", 1)
MAILBOX, TO, SUBJECT = "billing@example.com", "ann@example.com", "Your statement"
TEXT = "Dear Ann, here is your statement of this month. " * 20
TOKEN = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9." + "x" * 1400
WARM_UP = 40


def graph_mail() -> dict[str, Any]:
    return {
        "message": {
            "subject": SUBJECT,
            "body": {"contentType": "Text", "content": TEXT},
            "toRecipients": [{"emailAddress": {"address": TO}}],
        }
    }


async def measure(send: Callable[[], Awaitable[None]], *, mails_each: int = 1) -> None:
    """`send` sends `mails_each` mails; AT_ONCE of it run at the same time until MAILS are sent."""
    await _sent(send, max(AT_ONCE, WARM_UP // mails_each))
    calls = MAILS // mails_each
    cpu, clock = time.process_time(), time.perf_counter()
    await _sent(send, calls)
    tell(time.process_time() - cpu, time.perf_counter() - clock, calls * mails_each)


async def _sent(send: Callable[[], Awaitable[None]], calls: int) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await send()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


def measure_blocking(send: Callable[[], None]) -> None:
    for _ in range(WARM_UP):
        send()
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(MAILS):
        send()
    tell(time.process_time() - cpu, time.perf_counter() - clock, MAILS)


def tell(cpu: float, clock: float, mails: int) -> None:
    json.dump({"cpu": cpu, "clock": clock, "mails": mails}, sys.stdout)
