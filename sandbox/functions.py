"""The functions as a child process: this project's app in the local host, with the environment that Azure would give it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from sandbox.accounts import Pace, accounts_toml
from sandbox.host.queues import Queue
from sandbox.host.storage import Storage
from sandbox.services import Services

ROOT = Path(__file__).resolve().parents[1]
QUEUES = ("mail-outbox", "mail-outbox-poison", "mail-sync", "mail-sync-poison", "mail-received")  # as infra/ makes them
OURS = ("MAILROOM_", "AzureWebJobsStorage", "IDENTITY_", "AZURE_", "MSI_")
LOCAL = "localhost,127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 15.0


class FunctionsFailed(Exception):
    """They did not come up; the message has what they said last."""


@asynccontextmanager
async def functions(services: Services, folder: Path, pace: Pace, *, lease: float | None = None) -> AsyncIterator[str]:
    """The URL, ending in /api, once the health page answers. What the functions say goes to functions.log in `folder`."""
    async with host(services, folder, accounts_toml(services, pace), lease=lease) as (url, _):
        yield url


@asynccontextmanager
async def host(
    services: Services, folder: Path, accounts: str, *, lease: float | None = None, poll: float | None = None
) -> AsyncIterator[tuple[str, Process]]:
    """As `functions`, with accounts of one's own and the process that runs them. `poll` is the longest pause between looks at a queue."""
    (folder / "accounts.toml").write_text(accounts)
    await _make_queues(services.storage)
    log = folder / "functions.log"
    process = await _start(environment(services, folder / "accounts.toml"), log, lease, poll)
    try:
        yield await _ready(process, log), process
    finally:
        await _stop(process)


async def _make_queues(connection: str) -> None:
    """So that others can use them before we do."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for name in QUEUES:
            await Queue(Storage(connection, http), name).create()


def environment(services: Services, accounts: Path) -> dict[str, str]:
    """Nothing of a real tenant that this shell may be set up for is left in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    bundle = str(services.ca.bundle)
    return kept | {
        "MAILROOM_ACCOUNTS": str(accounts),
        "MAILROOM_VAULT_URL": services.vault,
        "AzureWebJobsStorage": services.storage,
        "IDENTITY_ENDPOINT": services.identity,
        "IDENTITY_HEADER": services.identity_header,
        "AZURE_CLIENT_ID": services.directory.app("mailroom-identity").client_id,
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "NO_PROXY": LOCAL,
        "no_proxy": LOCAL,
    }


async def _start(env: dict[str, str], log: Path, lease: float | None, poll: float | None) -> Process:
    """In a process group of its own: Ctrl-C in a terminal is for us, who then end it in order. If we die, its standard input ends."""
    command = [sys.executable, "-m", "sandbox.host", "--app", str(ROOT), "--end-with-stdin"]
    for option, value in (("--lease", lease), ("--poll", poll)):
        command += [] if value is None else [option, str(value)]
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdin=PIPE, stdout=PIPE, stderr=file, process_group=0)


async def _ready(process: Process, log: Path) -> str:
    try:
        async with asyncio.timeout(START_SECONDS):
            return await _healthy(process)
    except (TimeoutError, ValueError) as error:
        raise FunctionsFailed(f"The functions did not start:\n{tail(log)}") from error


async def _healthy(process: Process) -> str:
    assert process.stdout is not None
    url = str(json.loads(await process.stdout.readline())["functions"])
    async with httpx.AsyncClient(trust_env=False) as http:
        await _well(http, f"{url}/health")
    return url


async def _well(http: httpx.AsyncClient, page: str) -> None:
    while (await http.get(page)).status_code != 200:  # noqa: ASYNC110 - another process's health is no event of ours
        await asyncio.sleep(0.1)


async def _stop(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
