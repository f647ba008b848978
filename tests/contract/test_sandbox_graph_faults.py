"""Batches of the sandbox's Graph, its limit of four in flight, and every way in which it can be told to fail."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sandbox.faults import Fault
from sandbox.graph import ids
from tests.contract.sandbox_graph import City, Office, city, encode, person, refused
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
LONG = 60.0  # seconds that a fault holds requests up, unless it is cleared


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def office(town: City) -> AsyncIterator[Office]:
    yield town.office()
    town.faults.clear()


def fault(office: Office, path: str = "sendMail", **spec: Any) -> None:
    office.city.faults.add({"service": "graph", "path": path, **spec})


def sending(office: Office, name: str, **more: Any) -> dict[str, Any]:
    """A step of a batch."""
    body = {"message": {"subject": f"Step {name}", "toRecipients": [person(office.ben)]}}
    return {"id": name, "method": "POST", "url": f"/users/{office.anna}/sendMail", "headers": JSON, "body": body, **more}


async def test_a_batch(office: Office) -> None:
    """Each step has its own status and headers; JSON comes as such, anything else in base64; the outer status is 200."""
    draft = await office.draft(subject="One")
    raw = f"From: {office.anna}\r\nTo: {office.ben}\r\nSubject: MIME\r\n\r\nHi\r\n".encode()
    text = base64.urlsafe_b64encode(encode(raw)).decode().rstrip("=")
    found = await office.batch(
        sending(office, "1"),
        {"id": "2", "method": "GET", "url": f"users/{office.anna}/messages?$select=subject&$filter=isDraft eq true"},
        {"id": "3", "method": "GET", "url": f"/users/{office.anna}/messages/{draft['id']}/$value"},
        {"id": "4", "method": "GET", "url": "/users/nobody@mailroom.example/messages"},
        {"id": "5", "method": "post", "url": f"/users/{office.anna}/sendMail", "headers": {"content-type": "text/plain"}, "body": text},
        {"id": "6", "method": "POST", "url": "/$batch", "headers": JSON, "body": {"requests": []}},
        {"id": "7", "method": "GET", "url": f"/users/{office.anna}/messages", "headers": {"Authorization": "Bearer x", "Prefer": "a=b"}},
    )
    assert {name: one["status"] for name, one in found.items()} == {"1": 202, "2": 200, "3": 200, "4": 404, "5": 202, "6": 400, "7": 200}
    assert "body" not in found["1"]
    assert [one["subject"] for one in found["2"]["body"]["value"]] == ["One"]
    assert b"Subject: One" in base64.b64decode(found["3"]["body"])
    assert found["4"]["body"]["error"]["code"] == "ErrorInvalidUser"
    assert found["2"]["headers"]["Content-Type"].startswith("application/json")
    assert sorted(await office.inbox()) == ["MIME", "Step 1"]


async def test_a_batch_has_twenty_steps(office: Office) -> None:
    """Twenty are served, all of them though only four at a time; twenty-one are none."""
    found = await office.batch(*(sending(office, str(number)) for number in range(20)))
    assert [one["status"] for one in found.values()] == [202] * 20
    assert len(await office.inbox()) == 20
    error = await office.batch(*(sending(office, str(number)) for number in range(21)), status=400)
    assert error["code"] == "MaximumValueExceeded"
    assert "20" in error["message"]
    assert len(await office.inbox()) == 20


GET = {"id": "1", "method": "GET", "url": "/users/x/messages"}
BAD_BATCHES: list[Any] = [
    [],
    {},
    None,
    [7],
    [{**GET, "id": 1}],
    [{**GET, "id": ""}],
    [{**GET, "method": None}],
    [{"id": "1", "method": "GET"}],
    [GET, GET],
    [{**GET, "url": "https://graph.microsoft.com/v1.0/users"}],
    [{**GET, "dependsOn": ["2"]}, {**GET, "id": "2"}],
    [{**GET, "dependsOn": "1"}],
    [GET, {**GET, "id": "2", "dependsOn": [["1"]]}],
    [{**GET, "headers": ["Prefer"]}],
    [{**GET, "headers": "Prefer: x"}],
    [{**GET, "method": "POST", "body": {}}],
    [{**GET, "method": "POST", "body": "aGk", "headers": {"Accept": "x"}}],
]


@pytest.mark.parametrize("requests", BAD_BATCHES)
async def test_batches_that_are_none(office: Office, requests: Any) -> None:
    """No steps, no ids, the same id twice, an absolute URL, a dependency that comes later, a body of no type: 400 for all of it."""
    answer = await office.ask("POST", "/$batch", json={"requests": requests})
    assert refused(answer) == (400, "BadRequest")
    answer = await office.ask(
        "POST", "/$batch", json={"requests": [sending(office, "0"), *(requests if isinstance(requests, list) else [])]}
    )
    assert requests in ([], {}, None) or answer.status_code == 400
    assert len(await office.inbox()) == (1 if requests in ([], {}, None) else 0)


async def test_a_batch_is_posted_as_json(office: Office) -> None:
    """Another method is 405, another type or no JSON at all 400."""
    assert (await office.ask("GET", "/$batch")).status_code == 405
    assert refused(await office.ask("POST", "/$batch", content=b"{"))[0] == 400
    assert refused(await office.ask("POST", "/$batch", content=b"{", headers=JSON))[0] == 400
    assert refused(await office.ask("POST", "/$batch", json=[]))[0] == 400


async def test_steps_that_depend_on_others(office: Office) -> None:
    """They wait for them, and are not even tried where one failed: 424, and so for all that depend on those."""
    bad = sending(office, "bad", body={"message": {}})
    found = await office.batch(
        sending(office, "first"),
        sending(office, "second", dependsOn=["first"]),
        bad,
        sending(office, "third", dependsOn=["second", "bad"]),
        sending(office, "fourth", dependsOn=["third"]),
    )
    assert {name: one["status"] for name, one in found.items()} == {"first": 202, "second": 202, "bad": 400, "third": 424, "fourth": 424}
    assert found["third"]["body"]["error"]["code"] == "FailedDependency"
    assert await office.inbox() == ["Step second", "Step first"]


async def test_four_in_flight(office: Office) -> None:
    """A fifth request of the same app for the same mailbox is throttled at once; another mailbox is not its matter."""
    fault(office, f"{office.anna}/sendMail", delay=LONG)
    held = [asyncio.create_task(office.send(f"Mail {number}")) for number in range(4)]
    await full(office)
    for method, user in (("GET", office.anna.upper()), ("POST", ids.object_id(office.anna))):
        answer = await office.ask(method, "messages", user=user, json={})
        assert refused(answer) == (429, "ApplicationThrottled")
        assert "MailboxConcurrency" in answer.text
        assert int(answer.headers["retry-after"]) >= 1
    assert (await office.ask("GET", "messages", user=office.ben)).status_code == 200
    stranger = office.city.directory.issue(office.city.directory.app("caller").client_id, "https://graph.microsoft.com", ["Mail.Read"])
    assert (await office.ask("GET", "messages", token=stranger)).status_code == 200
    office.city.faults.clear()
    assert [answer.status_code for answer in await asyncio.gather(*held)] == [202] * 4
    assert len(await office.inbox()) == 4
    assert (await office.ask("GET", "messages")).status_code == 200


async def test_a_batch_takes_all_four(office: Office) -> None:
    """While one of twenty runs, a single call finds no room; and steps find none while single calls run."""
    fault(office, f"{office.anna}/sendMail", delay=LONG, times=4)
    running = asyncio.create_task(office.batch(*(sending(office, str(number)) for number in range(6))))
    await full(office)
    assert refused(await office.ask("GET", "messages"))[0] == 429
    found = await office.batch({"id": "1", "method": "GET", "url": f"/users/{office.anna}/messages"})
    assert found["1"]["status"] == 429
    assert found["1"]["headers"]["Retry-After"] == "1"
    office.city.faults.clear()
    assert {one["status"] for one in (await running).values()} == {202}


async def full(office: Office) -> None:
    """Until four requests are in flight for one mailbox."""
    running = office.city.graph._one.running  # type: ignore[attr-defined]
    await until(lambda: 4 in running.values())


STATUSES = {
    "400": "ErrorInvalidRequest",
    "401": "InvalidAuthenticationToken",
    "403": "ErrorAccessDenied",
    "404": "ErrorItemNotFound",
    "429": "ApplicationThrottled",
    "500": "ErrorInternalServerError",
    "502": "BadGateway",
    "503": "CommandConcurrencyLimitReached",
    "504": "UnknownError",
    "507": "ErrorQuotaExceeded",
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("status", STATUSES)
async def test_told_to_refuse(office: Office, status: str, after: bool) -> None:
    """Each status has its code and its Retry-After; before accepting nothing is sent, after it all is, alone and in a batch."""
    fault(office, answer=status, after_accepting=after, retry_after=7, times=2)
    answer = await office.send()
    assert refused(answer) == (int(status), STATUSES[status])
    assert answer.headers["retry-after"] == "7"
    found = await office.batch(sending(office, "1"))
    assert (found["1"]["status"], found["1"]["headers"]["Retry-After"]) == (int(status), "7")
    assert await office.inbox() == (["Step 1", "Hello"] if after else [])
    assert (await office.send()).status_code == 202
    assert len(await office.inbox()) == (3 if after else 1)


async def test_a_202_that_says_retry_after(office: Office) -> None:
    """It was accepted all the same; and a mail that is refused stays refused."""
    fault(office, answer="202", retry_after=30)
    answer = await office.send()
    assert (answer.status_code, answer.headers["retry-after"], answer.content) == (202, "30", b"")
    assert refused(await office.send(toRecipients=[])) == (400, "ErrorInvalidRecipients")
    assert await office.inbox() == ["Hello"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("answer", ["cut", "hang", "garbage", "html"])
async def test_told_to_answer_nothing_that_can_be_understood(office: Office, answer: str, after: bool) -> None:
    """A cut connection, a silent one, JSON that is none, a gateway's page: with the mail sent or not, alone and in a batch."""
    fault(office, answer=answer, after_accepting=after)
    for send in (office.send(), office.ask("POST", "/$batch", json={"requests": [sending(office, "1"), sending(office, "2")]})):
        task = asyncio.create_task(send)
        if answer == "cut":
            with pytest.raises(httpx.RemoteProtocolError):
                await task
        elif answer == "hang":
            await _check_silence(office.city.faults.all[0], task)
        else:
            _check_nonsense(answer, await task)
    expected = ["Hello", "Step 1", "Step 2"] if after else []
    box = office.city.graph.office.mailbox(office.ben).folder("inbox")
    await until(lambda: len(box.items) == len(expected))
    assert sorted(await office.inbox()) == expected


async def _check_silence(hanging: Fault, task: asyncio.Task[Any]) -> None:
    before = hanging.hits
    await until(lambda: hanging.hits > before)
    done, _ = await asyncio.wait({task}, timeout=0.02)
    assert not done
    task.cancel()
    await asyncio.wait({task})


def _check_nonsense(answer: str, response: httpx.Response) -> None:
    if response.request.url.path.endswith("$batch"):
        for step in response.json()["responses"]:
            assert step["status"] == (502 if answer == "html" else 200)
            assert base64.b64decode(step["body"])[:1] == (b"<" if answer == "html" else b"\x00")
    elif answer == "html":
        assert (response.status_code, response.headers["content-type"]) == (502, "text/html")
    else:
        with pytest.raises(ValueError, match=r".*"):
            json.loads(response.content)


async def test_clearing_ends_what_hangs(office: Office) -> None:
    """The connection is cut, and the places in flight are free again."""
    fault(office, answer="hang")
    hanging = [asyncio.create_task(office.send()) for _ in range(3)]
    hanging.append(asyncio.create_task(office.ask("POST", "/$batch", json={"requests": [sending(office, "1")]})))
    await full(office)
    office.city.faults.clear()
    for one in hanging:
        with pytest.raises(httpx.RemoteProtocolError):
            await one
    assert (await office.send()).status_code == 202


async def test_a_fault_meets_what_it_names(office: Office) -> None:
    """By path in any case, by method, and as often as it says; the first that fits is struck first."""
    fault(office, "SENDMAIL", method="post", answer="503", times=1)
    fault(office, "sendMail", answer="500", times=1)
    fault(office, f"{office.anna}/messages", method="DELETE", answer="404")
    assert (await office.ask("GET", "messages")).status_code == 200
    assert [(await office.send()).status_code for _ in range(3)] == [503, 500, 202]


async def test_a_delay(office: Office) -> None:
    """The answer is late, the mail is not; clearing the faults lets it go."""
    fault(office, delay=LONG)
    late = asyncio.create_task(office.send())
    await until(lambda: len(office.city.graph.office.mailbox(office.ben).folder("inbox").items) == 1)
    assert not late.done()
    office.city.faults.clear()
    assert (await late).status_code == 202


async def test_a_lag(office: Office) -> None:
    """An accepted mail waits in the Outbox, a draft still; when its time comes it is in Sent Items and in the inbox."""
    fault(office, lag=60, times=1)
    assert (await office.send(internetMessageId="<1@mailroom.example>")).status_code == 202
    [waiting] = await office.values("mailFolders/outbox/messages")
    assert waiting["isDraft"] is True
    assert refused(await office.ask("POST", f"messages/{waiting['id']}/send")) == (400, "ErrorInvalidOperation")
    assert (await office.inbox(), await office.values("mailFolders/sentitems/messages")) == ([], [])
    office.city.clock.ahead += 61
    assert await office.inbox() == ["Hello"]
    [sent] = await office.values("mailFolders/sentitems/messages")
    assert (sent["isDraft"], sent["internetMessageId"]) == (False, "<1@mailroom.example>")
    assert sent["sentDateTime"] > waiting["createdDateTime"]
    assert await office.values("mailFolders/outbox/messages") == []


@pytest.mark.parametrize("action", ["permanentDelete", "move"])
async def test_a_waiting_mail_can_be_taken_back(office: Office, action: str) -> None:
    """Deleted or moved out of the Outbox it is never sent, and nothing stumbles over it."""
    fault(office, lag=60, times=1)
    await office.send()
    [waiting] = await office.values("mailFolders/outbox/messages")
    body = {"destinationId": "drafts"} if action == "move" else None
    assert (await office.ask("POST", f"messages/{waiting['id']}/{action}", json=body)).status_code in (201, 204)
    office.city.clock.ahead += 61
    assert await office.inbox() == []
    assert len(await office.values("messages")) == (1 if action == "move" else 0)


async def test_a_lag_for_all(office: Office) -> None:
    """The post office itself can be slow; mails then show in the order in which they were accepted."""
    office.city.graph.office.lag = 5
    for subject in ("One", "Two"):
        await office.send(subject)
    office.city.graph.office.lag = 0
    assert await office.inbox() == []
    office.city.clock.ahead += 6
    assert await office.inbox() == ["Two", "One"]


async def test_uploads_count_for_their_own_mailbox(office: Office) -> None:
    """Four chunks under way throttle a fifth there, and nobody else."""
    others = office.city.office()

    async def began(who: Office) -> str:
        draft = await who.draft()
        asked = {"AttachmentItem": {"attachmentType": "file", "name": "a", "size": 4 << 20}}
        answer = await who.ask("POST", f"messages/{draft['id']}/attachments/createUploadSession", json=asked)
        return str(answer.json()["uploadUrl"])

    own = [await began(office) for _ in range(5)]
    theirs = await began(others)
    fault(office, "AttachmentSessions", delay=LONG, times=4)
    put = {"content": b"good", "headers": {"Content-Range": f"bytes 0-3/{4 << 20}"}, "token": ""}
    held = [asyncio.create_task(office.ask("PUT", where, **put)) for where in own[:4]]
    await full(office)
    assert (await office.ask("PUT", own[4], **put)).status_code == 429
    assert (await office.ask("PUT", theirs, **put)).status_code == 200
    office.city.faults.clear()
    assert [one.status_code for one in await asyncio.gather(*held)] == [200] * 4
