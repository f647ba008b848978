"""`python -m sandbox.host --app DIR`: runs an app until SIGTERM or SIGINT, then lets running functions end.

Prints `{"functions": URL}` once it listens. Several of them on one storage share queues and timers, as instances do.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from sandbox.host import functions
from sandbox.host.blobs import HostBlobs
from sandbox.host.functions import BadApp, Function
from sandbox.host.http import HttpFront
from sandbox.host.listener import LEASE, QueueListener, poison_name
from sandbox.host.ncrontab import Schedule
from sandbox.host.queues import Queue
from sandbox.host.settings import HostSettings
from sandbox.host.storage import Storage
from sandbox.host.timers import TimerListener
from sandbox.parent import when_stdin_ends
from sandbox.serve import serve

DRAIN = 60.0
CONNECTION = "AzureWebJobsStorage"

Listener = QueueListener | TimerListener


def main() -> int:
    arguments = parser().parse_args()
    log_to_stderr()
    return asyncio.run(run(arguments))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m sandbox.host", description="Runs function_app.py's HTTP, queue and timer triggers.")
    parser.add_argument("--app", type=Path, required=True, metavar="DIR", help="where function_app.py and host.json are")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; without it a free one")
    parser.add_argument("--lease", type=float, default=LEASE, metavar="SECONDS", help="of a queue message, 600 as on Azure")
    parser.add_argument("--poll", type=float, metavar="SECONDS", help="the longest pause between polls, instead of host.json's")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does, so with the parent")
    return parser


async def run(arguments: argparse.Namespace) -> int:
    directory = arguments.app.resolve()
    settings = HostSettings.load(directory / "host.json")
    found = functions.load(directory)
    if arguments.poll is not None:
        settings = replace(settings, queues=replace(settings.queues, max_polling_interval=arguments.poll))
    over = _over(end_with_stdin=arguments.end_with_stdin)
    front = HttpFront.of(found, settings.route_prefix, settings.function_timeout)
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=None, max_keepalive_connections=20)) as http:
        listeners = await _listeners(found, settings, http, arguments.lease, _host_id(directory))
        served = await serve(front, None, arguments.port)
        print(json.dumps({"functions": f"{served.url}/{settings.route_prefix}".rstrip("/")}), flush=True)
        async with asyncio.TaskGroup() as running:
            for listener in listeners:
                running.create_task(listener.run())
            await over.wait()
            for listener in listeners:
                listener.stop()
            await front.drain(DRAIN)
        await served.stop()
    return 0


async def _listeners(
    found: Sequence[Function], settings: HostSettings, http: httpx.AsyncClient, lease: float, host_id: str
) -> list[Listener]:
    made: list[Listener] = []
    timers = [function for function in found if function.kind == "timerTrigger"]
    if timers:
        blobs = HostBlobs(_storage(CONNECTION, http))
        await blobs.create()
        made += [_timer(function, settings, blobs, host_id) for function in timers]
    for function in found:
        if function.kind == "queueTrigger":
            storage, name = _storage(function.trigger["connection"], http), function.trigger["queueName"]
            poison = Queue(storage, poisoned) if (poisoned := poison_name(name)) else None
            made.append(QueueListener(function, Queue(storage, name), poison, settings.queues, settings.function_timeout, lease))
    return made


def _timer(function: Function, settings: HostSettings, blobs: HostBlobs, host_id: str) -> TimerListener:
    schedule = Schedule.parse(function.trigger["schedule"])
    monitor = function.trigger.get("useMonitor") is not False and not schedule.frequent(datetime.now(UTC))
    lock, record = f"locks/{host_id}/{function.name}.Listener", f"timers/{host_id}/{function.name}/status"
    return TimerListener(function, schedule, blobs, lock, record, monitor, settings.function_timeout)


def _storage(connection: str, http: httpx.AsyncClient) -> Storage:
    if connection not in os.environ:
        raise BadApp(f"the environment has no {connection}; it must hold a storage connection string")
    return Storage(os.environ[connection], http)


def _host_id(directory: Path) -> str:
    """The same for every host of one app, as instances of one Function App share theirs."""
    return f"{directory.name.lower()[:20]}-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"


def _over(*, end_with_stdin: bool) -> asyncio.Event:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(ending, over.set)
    if end_with_stdin:
        when_stdin_ends(over.set)
    return over


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")
    for chatty in ("httpx", "httpcore", "azure", "msal", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
