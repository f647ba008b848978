"""Mail from outside, through the timer and the queue trigger into storage, told of once on the queue `mail-received`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.journey.own_inbox import Inbox
from tests.journey.own_town import new_subject, own_town
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

EARLIER = "It was there before"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inbox]:
    async with own_town(tmp_path_factory.mktemp("receiving")) as town:
        for _ in range(3):
            await town.arrives(EARLIER)
        async with town.functions():
            inbox = Inbox(town)
            await inbox.begins()
            yield inbox


@pytest.fixture(autouse=True)
def _healed(inbox: Inbox) -> None:
    inbox.town.services.faults.clear()


async def test_a_mail_is_stored_and_told_of_once(inbox: Inbox) -> None:
    """A mail from outside lies in storage as it came and as JSON before its one CloudEvent tells where."""
    subject = f"Grüße {new_subject()}"
    await inbox.town.arrives(subject, "Thank you, paid today.", Cc="Ben <ben@fabrikam.example>")
    event = await inbox.event(subject)
    data = event["data"]
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "mailroom.mail.received", data["json"])
    assert event["time"] == data["received"]
    assert datetime.fromisoformat(event["time"]).utcoffset() is not None
    assert set(data) == {"account", "id", "subject", "from", "received", "eml", "json"}
    assert (data["account"], data["from"]) == (inbox.town.billing, "ann@fabrikam.example")
    mail = json.loads(await inbox.town.blob(f"mail-inbox/{data['json']}"))
    assert (mail["subject"], mail["text"].strip(), mail["eml"]) == (subject, "Thank you, paid today.", data["eml"])
    assert (mail["from"][0]["name"], mail["cc"][0]["address"]) == ("Ann", "ben@fabrikam.example")
    eml = await inbox.town.blob(f"mail-inbox/{data['eml']}")
    [there] = (await _found(inbox, subject))["value"]
    assert there["id"] == data["id"]
    assert b"Thank you, paid today." in eml
    assert there["internetMessageId"].encode() in eml
    await inbox.goes_on()
    assert len(await inbox.of(subject)) == 1


async def test_what_was_there_before_is_no_news(inbox: Inbox) -> None:
    """The first sync walks over mails that were there already and tells of none, now or later."""
    await inbox.goes_on()
    assert len((await _found(inbox, EARLIER))["value"]) == 3
    assert await inbox.of(EARLIER) == []


async def test_a_read_flag_is_no_new_mail(inbox: Inbox) -> None:
    """A mail that somebody reads changes in the mailbox, and is not told of again."""
    subject = new_subject()
    await inbox.town.arrives(subject)
    event = await inbox.event(subject)
    changed = await inbox.town.graph("PATCH", f"/users/{inbox.town.billing}/messages/{event['data']['id']}", json={"isRead": True})
    assert changed["isRead"] is True
    await inbox.goes_on()
    assert len(await inbox.of(subject)) == 1


@pytest.mark.parametrize("gone", [True, False], ids=["410", "404-syncStateNotFound"])
async def test_a_forgotten_cursor_loses_nothing(inbox: Inbox, gone: bool) -> None:
    """Graph forgets where we were while a mail comes in: it is told of, the earlier ones are not told of anew."""
    before, after = new_subject(), new_subject()
    await inbox.town.arrives(before)
    await inbox.event(before)
    await inbox.town.forget_deltas(gone=gone)
    await inbox.town.arrives(after)
    await inbox.event(after)
    await inbox.goes_on()
    assert [len(await inbox.of(subject)) for subject in (before, after, EARLIER)] == [1, 1, 0]


@pytest.mark.parametrize(("path", "answer"), [("delta", "503"), ("delta", "hang"), ("$value", "503")])
async def test_a_provider_that_fails_delays_and_loses_nothing(inbox: Inbox, path: str, answer: str) -> None:
    """Graph fails while mails come in; once it is well again each of them is told of, once."""
    subjects = [new_subject() for _ in range(3)]
    inbox.town.services.faults.add({"service": "graph", "path": path, "answer": answer, "retry_after": 1})
    for subject in subjects:
        await inbox.town.arrives(subject)
    await until(inbox.town.struck)
    assert [await inbox.of(subject) for subject in subjects] == [[], [], []]
    inbox.town.services.faults.clear()
    for subject in subjects:
        await inbox.event(subject)
    await inbox.goes_on()
    assert [len(await inbox.of(subject)) for subject in subjects] == [1, 1, 1]


async def test_no_two_mails_share_an_event_id(inbox: Inbox) -> None:
    """Whatever went wrong before, an id stands for one mail, and its event says the same each time."""
    told: dict[str, set[str]] = {}
    for event in inbox.events:
        told.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
    assert [len(said) for said in told.values()] == [1] * len(told)
    assert len({event["data"]["id"] for event in inbox.events}) == len(told) >= 20
    assert len({event["data"]["eml"] for event in inbox.events}) == len(told)


async def _found(inbox: Inbox, subject: str) -> Any:
    where = f"/users/{inbox.town.billing}/mailFolders/inbox/messages"
    return await inbox.town.graph("GET", where, params={"$filter": f"subject eq '{subject}'"})
