"""The app in Microsoft's own worker runtime, as the platform runs it on Python 3.13: loaded, listed, and each kind of trigger invoked."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bench.town import Town, town
from mailroom import http
from mailroom.model.places import OUTBOX_POISON, SYNC_QUEUE, TOKENS_TABLE
from mailroom.storage.rest import RestStore

pytest.importorskip("azure_functions_runtime", reason="Microsoft's runtime is there from Python 3.13 on")
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

ROOT = Path(__file__).parents[2]
QUEUED = {
    "Id": "11111111-2222-3333-4444-555555555555",
    "DequeueCount": 1,
    "PopReceipt": "AgAAAAMAAAAAAAAA",
    "InsertionTime": "2026-11-24T10:00:00+00:00",
    "ExpirationTime": "9999-12-31T23:59:59+00:00",
    "NextVisibleTime": "2026-11-24T10:10:00+00:00",
}


@dataclass
class Worker:
    process: Process
    functions: dict[str, list[dict[str, Any]]]
    town: Town

    async def invoke(self, function: str, given: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"function": function, "input": given, "metadata": metadata or {}}).encode() + b"\n")
        return await self.line()

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the worker ended; its errors are above"
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def post(self, path: str, body: object, **headers: str) -> dict[str, Any]:
        http_request = {
            "method": "POST",
            "url": f"https://mailroom.azurewebsites.net/api/{path}",
            "headers": {"content-type": "application/json", **headers},
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
        }
        response = await self.invoke("post_message", {"http": http_request})
        assert response["ok"], response["exception"]
        answer: dict[str, Any] = response["answer"]
        return answer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker() -> AsyncIterator[Worker]:
    async with town(ROOT) as served:
        command = [sys.executable, "-m", "tests.runtime.worker", str(ROOT)]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=served.environment, stdin=PIPE, stdout=PIPE)
        started = Worker(process, {}, served)
        try:
            started.functions = await started.line()  # type: ignore[assignment]  # the first line is the list
            yield started
        finally:
            process.terminate()
            await process.communicate()


@pytest_asyncio.fixture(loop_scope="session")
async def store(worker: Worker) -> AsyncIterator[RestStore]:
    async with http.new_client() as client:
        yield RestStore(worker.town.storage, client, None, resource="")  # type: ignore[arg-type]  # a key needs no identity


def mail(**fields: Any) -> dict[str, Any]:
    return {"account": "anna", "to": ["Ann <ann@example.com>"], "subject": "Hello", "text": "Hello Ann"} | fields


async def test_every_function_is_found_with_its_trigger(worker: Worker) -> None:
    """The platform sees these functions and these bindings: what host and scale controller go by."""
    triggers = {
        name: next(binding for binding in bindings if binding["type"].endswith("Trigger")) for name, bindings in worker.functions.items()
    }
    seen = {name: (t["type"], t.get("route") or t.get("queueName") or t.get("schedule"), t.get("methods")) for name, t in triggers.items()}
    assert seen == {
        "post_message": ("httpTrigger", "messages", ["POST"]),
        "get_message": ("httpTrigger", "messages/{id}", ["GET"]),
        "post_batch": ("httpTrigger", "batches", ["POST"]),
        "get_batch": ("httpTrigger", "batches/{id}", ["GET"]),
        "delete_batch": ("httpTrigger", "batches/{id}", ["DELETE"]),
        "retry_batch": ("httpTrigger", "batches/{id}/retry", ["POST"]),
        "get_failures": ("httpTrigger", "batches/{id}/failures", ["GET"]),
        "resolve_message": ("httpTrigger", "messages/{id}/resolve", ["POST"]),
        "post_attachment": ("httpTrigger", "attachments", ["POST"]),
        "get_health": ("httpTrigger", "health", ["GET"]),
        "deliver_mail": ("queueTrigger", "mail-outbox", None),
        "sync_inbox": ("queueTrigger", "mail-sync", None),
        "sweep_outbox": ("timerTrigger", "0 * * * * *", None),
        "plan_sync": ("timerTrigger", "30 * * * * *", None),
        "refresh_tokens": ("timerTrigger", "0 */5 * * * *", None),
    }
    assert all(t["authLevel"] == "ANONYMOUS" for t in triggers.values() if t["type"] == "httpTrigger")
    assert all(t["connection"] == "AzureWebJobsStorage" for t in triggers.values() if t["type"] == "queueTrigger")


async def test_an_http_function_answers(worker: Worker) -> None:
    """Health needs no token, sending does: the refusal is a problem+json with its challenge, and a good token has the mail sent."""
    health = await worker.invoke("get_health", {"http": {"method": "GET", "url": "https://mailroom.azurewebsites.net/api/health"}})
    assert health["answer"]["status"] == 200

    refused = await worker.post("messages", mail())
    assert refused["status"] == 401
    assert refused["headers"]["content-type"] == "application/problem+json"
    assert "Bearer" in {name.lower(): value for name, value in refused["headers"].items()}["www-authenticate"]
    assert json.loads(refused["body"])["code"] == "token_missing"

    sent = await worker.post("messages", mail(), authorization=f"Bearer {worker.town.caller_token}")
    assert sent["status"] == 202
    assert json.loads(sent["body"])["status"] == "sent"


async def test_a_queue_function_takes_a_message(worker: Worker) -> None:
    """A plain message on the queue is sent; the runtime gives the message and its metadata as the host would."""
    done = await worker.invoke("deliver_mail", {"string": json.dumps(mail())}, QUEUED)
    assert done == {"ok": True, "exception": None, "answer": None}


async def test_a_message_that_nobody_can_read_is_poisoned_once(worker: Worker, store: RestStore) -> None:
    """The function succeeds, so that the host does not try it five times; what it was and why lies in the poison queue."""
    done = await worker.invoke("deliver_mail", {"string": "Dear mail service, please send this."}, QUEUED)
    assert done["ok"], done["exception"]
    [poisoned] = await store.receive(OUTBOX_POISON)
    told = json.loads(poisoned.body)
    assert told["original"] == "Dear mail service, please send this."
    assert told["reason"].startswith("not_json")


async def test_a_timer_function_runs(worker: Worker, store: RestStore) -> None:
    """The refresh leaves a sealed token behind, the sync's plan a ticket; both are given what the host gives a timer."""
    given = {"json": json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False})}
    for function in ("refresh_tokens", "plan_sync", "sweep_outbox"):
        done = await worker.invoke(function, given)
        assert done["ok"], done["exception"]
    assert await store.query(TOKENS_TABLE, "sealed")
    assert await store.queue_length(SYNC_QUEUE) == 1
