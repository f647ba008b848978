"""A batch of a million mails of fifty mailboxes: uploaded, accepted out of its blob, 100,000 worked off; what that takes of time, memory.

Each part is a process of its own, on Azurite and a provider whose answers are fixed (bench/fixed.py). Writes bench/out/million.json.
Azurite looks through all rows of a partition, and all blobs, with each insert: with one mailbox a million mails would take it hours, and
with a million ids to enter an hour. So one mail in ten has an id of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.fixed import fixed
from mailroom import http
from mailroom.model.account import Storage
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.storage.rest import RestStore
from sandbox import azurite as emulator
from sandbox.azurite import Azurite

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).parent / "out" / "million.json"
MAILS, WORKED_OFF = 1_000_000, 100_000
LIMIT = 200  # MB, for each of the two processes
CALLER, BLOB = "bench", "million"
LINES_A_PIECE = 10_000
ACCOUNTS = [f"billing-{number:02}" for number in range(50)]


async def main() -> None:
    mails = int(sys.argv[1]) if len(sys.argv) > 1 else MAILS
    worked_off = min(int(sys.argv[2]) if len(sys.argv) > 2 else WORKED_OFF, mails)
    async with fixed() as server, Azurite() as azurite:
        storage = Storage(azurite.url("blob"), azurite.url("queue"), azurite.url("table"), emulator.ACCOUNT, emulator.KEY)
        size = await uploaded(storage, mails)
        task = {"graph": server.at_once, "storage": msgspec.to_builtins(storage), "accounts": ACCOUNTS}
        task |= {"mails": worked_off, "blob": BLOB, "caller": CALLER}
        accept = await measured("taking_in", task)
        work = await measured("working_off", task)
    result = summary(mails, size, accept, work)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if max(accept["peak_rss_mb"], work["peak_rss_mb"]) > LIMIT:
        raise SystemExit(f"more than {LIMIT} MB")


async def uploaded(storage: Storage, mails: int) -> int:
    """The batch as NDJSON, put to the link that we hand out, as any client would; its size in bytes."""
    size = 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal size
        for first in range(0, mails, LINES_A_PIECE):
            piece = b"".join(map(line, range(first, min(first + LINES_A_PIECE, mails))))
            size += len(piece)
            yield piece

    async with http.new_client() as ours, httpx.AsyncClient(trust_env=False, timeout=600) as theirs:
        store = RestStore(storage, ours, None, resource="")  # type: ignore[arg-type]  # a key needs no identity
        url = await store.upload_link(UPLOADS_CONTAINER, f"{CALLER}/{BLOB}", 3600)
        length = sum(len(line(number)) for number in range(mails))
        headers = {"x-ms-blob-type": "BlockBlob", "content-length": str(length)}
        (await theirs.put(url, content=lines(), headers=headers)).raise_for_status()
    return size


def line(number: int) -> bytes:
    mail = {
        "account": ACCOUNTS[number % len(ACCOUNTS)],
        **({"id": f"invoice-2026-{number:07}"} if number % 10 == 0 else {}),
        "to": [f"Customer {number} <customer{number}@example.com>"],
        "subject": f"Your invoice {number}",
        "text": f"Dear customer {number},\n\nyour invoice of this month is ready. Thank you for your trust in us.\n",
    }
    return json.dumps(mail).encode() + b"\n"


async def measured(part: str, task: dict[str, Any]) -> dict[str, Any]:
    env = {**os.environ, "BENCH_SEND": json.dumps(task)}
    command = [sys.executable, "-m", f"bench.senders.{part}"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    print(file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"{part}: it failed; its errors are above")
    found: dict[str, Any] = json.loads(told)
    return found


def summary(mails: int, size: int, accept: dict[str, Any], work: dict[str, Any]) -> dict[str, Any]:
    def told(part: dict[str, Any], count: int) -> dict[str, Any]:
        rates = {"mails_per_second": count / part["seconds"], "mails_per_cpu_second": count / part["cpu_seconds"]}
        return {name: round(value, 1) if isinstance(value, float) else value for name, value in {**part, **rates}.items()}

    return {
        "what": "a batch of NDJSON accepted out of its blob, and part of it worked off, each by one process on Azurite",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "day": time.strftime("%Y-%m-%d"),
        "mails": mails,
        "mailboxes": len(ACCOUNTS),
        "bytes": size,
        "limit_mb": LIMIT,
        "accept": told(accept, mails),
        "work": told(work, work["mails"]),
    }


if __name__ == "__main__":
    asyncio.run(main())
