"""The sandbox in a process of its own: `python -m chaos.town` prints its addresses as one JSON line, and ends with its standard input."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from sandbox.accounts import Pace, accounts_toml
from sandbox.functions import ROOT, environment
from sandbox.parent import when_stdin_ends
from sandbox.services import services

MAILBOXES = tuple(f"{name}@contoso.example" for name in ("billing", "support", "orders", "news", "claims"))
VICTIM = "victim@contoso.example"  # whose tickets are killed at each delivery
LIFETIME = 120  # seconds of an application's token, so that many are renewed meanwhile
LAG = 1.5  # seconds at most until a sent mail shows; the grace is longer than this and a call together
PACE = Pace(sweep="*/2 * * * * *", sync="30 * * * * *", refresh="*/10 * * * * *", claim=10, call=3, grace=8)


class Addresses(msgspec.Struct, frozen=True):
    """`environment` is that of a function app here, but for its storage, which lies behind a proxy."""

    control: str
    storage: str
    token_url: str
    client_id: str
    secret: str
    scope: str
    ca: str
    environment: dict[str, str]


@asynccontextmanager
async def town() -> AsyncIterator[Addresses]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chaos.town", cwd=ROOT, stdin=PIPE, stdout=PIPE, process_group=0, limit=2**20
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("The sandbox did not start; its errors are above.")
        yield msgspec.json.decode(line, type=Addresses)
    finally:
        process.stdin.close()
        await process.wait()


async def main() -> None:
    over = asyncio.Event()
    when_stdin_ends(over.set)
    with tempfile.TemporaryDirectory(prefix="mailroom-chaos-") as name:
        folder = Path(name)
        async with services(folder, lifetime=LIFETIME, customers=(*MAILBOXES[2:], VICTIM)) as running:
            running.make_certificate()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # clients that are gone in mid-request are what this is about
            told = dataclasses.replace(running, mailboxes=(*MAILBOXES, VICTIM))
            (folder / "accounts.toml").write_text(accounts_toml(told, PACE))
            print(json.dumps(_addresses(told, folder)), flush=True)
            await over.wait()
            running.faults.clear()


def _addresses(running: Any, folder: Path) -> dict[str, Any]:
    caller = running.directory.app("caller")
    return {
        "control": running.control,
        "storage": running.storage,
        "token_url": f"{running.authority}/{running.directory.tenant}/oauth2/v2.0/token",
        "client_id": caller.client_id,
        "secret": caller.secret,
        "scope": running.scope,
        "ca": str(running.ca.bundle),
        "environment": environment(running, folder / "accounts.toml"),
    }


if __name__ == "__main__":
    asyncio.run(main())
