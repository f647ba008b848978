"""The local host as a process: started, killed, stopped, side by side."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sandbox.azurite import Azurite
from sandbox.host.queues import Queue
from sandbox.host.storage import Storage
from tests.waiting import until

ROOT = Path(__file__).parents[2]
APP = """
import asyncio
import os
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
told = Path(os.environ["TOLD"])


def tell(line: str) -> None:
    with told.open("a") as file:
        file.write(line + "\\n")


@app.route("health")
async def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("ok")


@app.queue_trigger("msg", "QUEUE", "AzureWebJobsStorage")
async def work(msg: func.QueueMessage) -> None:
    tell(f"started {msg.get_body().decode()} {msg.dequeue_count} {os.getpid()}")
    await asyncio.sleep(float(msg.get_body()))
    tell(f"ended {msg.get_body().decode()}")


@app.timer_trigger("timer", "* * * * * *")
async def tick(timer: func.TimerRequest) -> None:
    tell(f"tick {os.getpid()}")
"""


class Office:
    """An app in a folder, with what its functions told."""

    def __init__(self, folder: Path, connection: str, queue: Queue) -> None:
        self.queue = queue
        self._folder = folder
        self._told = folder / "told"
        self._told.touch()
        self._environment = {**os.environ, "AzureWebJobsStorage": connection, "TOLD": str(self._told), "PYTHONPATH": str(ROOT)}
        (folder / "function_app.py").write_text(APP.replace("QUEUE", queue.name))
        (folder / "host.json").write_text("{}")

    def told(self, what: str) -> list[list[str]]:
        return [words for line in self._told.read_text().splitlines() if (words := line.split())[0] == what]

    async def put(self, seconds: float) -> None:
        await self.queue.put(base64.b64encode(str(seconds).encode()).decode())

    @asynccontextmanager
    async def host(self, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
        """A running host and its URL; killed at the end if it is still there."""
        command = [sys.executable, "-m", "sandbox.host", "--app", str(self._folder), "--lease", "2", "--poll", "0.2", *arguments]
        host = await asyncio.create_subprocess_exec(*command, env=self._environment, stdin=-1, stdout=-1, cwd=ROOT)
        assert host.stdout is not None
        try:
            async with asyncio.timeout(20):
                yield host, json.loads(await host.stdout.readline())["functions"]
        finally:
            if host.returncode is None:
                host.kill()
            await host.communicate()


@pytest.fixture
async def office(azurite: Azurite, client: httpx.AsyncClient, place: str, tmp_path: Path) -> Office:
    queue = Queue(Storage(azurite.connection_string, client), place)
    await queue.create()
    return Office(tmp_path, azurite.connection_string, queue)


@pytest.mark.slow
async def test_killed_in_the_middle(office: Office) -> None:
    """After a SIGKILL the message comes back when its lease ends, with one dequeue used up, and another host does the work."""
    async with office.host() as (host, _):
        await office.put(0.5)
        await until(lambda: office.told("started"))
        host.kill()
        await host.wait()
    assert office.told("ended") == []
    async with office.host():
        await until(lambda: office.told("ended"))
    assert [words[2] for words in office.told("started")] == ["1", "2"]


@pytest.mark.slow
async def test_sigterm_drains(office: Office) -> None:
    """On SIGTERM the running function ends, the message is done with, and the host exits 0."""
    async with office.host() as (host, _):
        await office.put(1.0)
        await until(lambda: office.told("started"))
        host.send_signal(signal.SIGTERM)
        assert await host.wait() == 0
    assert len(office.told("ended")) == 1
    await asyncio.sleep(2.1)
    assert await office.queue.get(1, 1) == []


@pytest.mark.slow
async def test_side_by_side(office: Office) -> None:
    """Hosts of one app share its queue, and one of them alone runs its timer."""
    async with office.host() as (one, first), office.host() as (other, second):
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{first}/health")).text == (await http.get(f"{second}/health")).text == "ok"
        for _ in range(40):
            await office.put(0.3)
        await until(lambda: len(office.told("ended")) == 40)
        await until(lambda: len(office.told("tick")) >= 3)
        assert {int(words[3]) for words in office.told("started")} == {one.pid, other.pid}
        assert len({words[1] for words in office.told("tick")}) == 1


@pytest.mark.slow
async def test_ends_with_its_parent(office: Office) -> None:
    """With `--end-with-stdin` the host ends when whoever started it closes its standard input, however that came about."""
    async with office.host("--end-with-stdin") as (host, _):
        assert host.stdin is not None
        host.stdin.close()
        assert await host.wait() == 0
