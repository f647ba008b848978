"""Function processes on one storage, as instances are: each behind its own proxy, killed with SIGKILL and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.proxy import Proxy
from chaos.town import Addresses
from sandbox.functions import ROOT

LEASE = 4.0  # seconds of a queue message, so that a killed worker's come back soon
POLL = 0.5


@dataclass(slots=True)
class Worker:
    number: int
    where: Addresses
    log: Path
    kills: Counter[str]
    proxy: Proxy
    port: int
    up: asyncio.Event = field(default_factory=asyncio.Event)
    _pid: int = 0
    _nursery: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def kill(self, why: str) -> None:
        """SIGKILL: it gets no chance to put anything away. Nothing, where it is not up yet."""
        if self.up.is_set():
            self.up.clear()
            self.kills[why] += 1
            os.kill(self._pid, signal.SIGKILL)

    async def run(self) -> None:
        """Until `end`; raises RuntimeError when it ends by itself."""
        self._nursery = nursery = await self._started()
        assert nursery.stdout is not None
        while line := await nursery.stdout.readline():
            if line.strip().isdigit():
                self._pid = int(line)
            else:
                self.up.set()
        self.up.clear()
        if await nursery.wait() != -signal.SIGKILL:
            raise RuntimeError(f"A worker ended by itself; {self.log} tells why.")

    async def _started(self) -> Process:
        command = [sys.executable, "-m", "chaos.nursery", "--app", str(ROOT), "--end-with-stdin"]
        command += ["--port", str(self.port), "--lease", str(LEASE), "--poll", str(POLL)]
        env = self.where.environment | {"AzureWebJobsStorage": self.proxy.connection_string}
        with self.log.open("ab") as file:
            return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdin=PIPE, stdout=PIPE, stderr=file, process_group=0)

    def end(self) -> None:
        """With the nursery, whose group it is in."""
        if self._nursery is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._nursery.pid, signal.SIGKILL)


@asynccontextmanager
async def workers(where: Addresses, count: int, folder: Path, kills: Counter[str], hits: Counter[str]) -> AsyncIterator[list[Worker]]:
    """All of them up at first. `kills` counts by occasion, `hits` the faults of storage by kind."""
    made: list[Worker] = []
    for number in range(count):
        proxy = Proxy(where.storage, lambda why, number=number: made[number].kill(why), hits)  # type: ignore[misc]
        await proxy.start()
        made.append(Worker(number, where, folder / f"worker-{number}.log", kills, proxy, _free_port()))
    try:
        async with asyncio.TaskGroup() as running:
            for worker in made:
                running.create_task(worker.run())
            await asyncio.gather(*(asyncio.wait_for(worker.up.wait(), 60) for worker in made))
            try:
                yield made
            finally:
                for worker in made:
                    worker.end()
    finally:
        for worker in made:
            worker.end()
            await worker.proxy.stop()


def _free_port() -> int:
    """Its own for good, since a caller knows the worker by it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
