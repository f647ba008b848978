"""Asking Graph what was sent, and reading a folder through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, Refused, Throttled, TokenRejected
from mailroom.model.message import Receipt
from mailroom.model.page import Arrival, Page
from mailroom.ports import CursorLost
from tests.unit.test_graph_send import ACCOUNT, TOKEN, Wire, error, inner, mail

GRAPH = "https://graph.example/v1.0"
FIRST = f"{GRAPH}/users/o%27neil@x.example/mailFolders/inbox/messages/delta?$select=id,receivedDateTime"
DELTA = f"{GRAPH}/users('o')/mailFolders('Inbox')/messages/delta?%24deltaToken=x"


def found(*ids: str) -> httpx.Response:
    return httpx.Response(200, json={"value": [{"id": one, "isDraft": False} for one in ids]})


def by_folder(**folders: list[str]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        return found(*folders.get(request.url.path.split("/")[5], []))

    return answer


async def test_a_mail_is_found_by_its_stamp() -> None:
    """One mail, one question to Sent Items: by the extended property that only this mail has, with an immutable id in return."""
    wire = Wire(found("AAkX"))
    assert await wire.graph.ask(ACCOUNT, [mail()], TOKEN) == [Receipt("found", "AAkX")]
    [request] = wire.requests
    assert request.url.path == "/v1.0/users/o'neil@x.example/mailFolders/sentitems/messages"
    assert 'IdType="ImmutableId"' in request.headers["Prefer"]
    question = unquote(request.url.query.decode())
    name = "String {8d1f6f0c-6f0a-4c39-9e57-6d6b1a3c52e1} Name MailroomStamp"
    assert f"singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq 's1')" in question
    assert "receivedDateTime ge 2026-10-25T00:00:00Z" in question


async def test_a_mime_mail_is_found_by_its_header() -> None:
    """The stamp of a mail that went as MIME is a header, which Exchange shows as a named property."""
    wire = Wire(found("AAkX"))
    await wire.graph.ask(ACCOUNT, [mail(in_reply_to="<a@b>")], TOKEN)
    assert "String {00020386-0000-0000-C000-000000000046} Name X-Mailroom-Stamp" in unquote(str(wire.requests[0].url))


async def test_what_is_nowhere_was_not_sent() -> None:
    """Only after Sent Items, Outbox and Drafts know nothing of it."""
    wire = Wire(by_folder())
    assert await wire.graph.ask(ACCOUNT, [mail()], TOKEN) == [None]
    assert [request.url.path.split("/")[5] for request in wire.requests] == ["sentitems", "outbox", "drafts"]


async def test_what_waits_in_the_outbox_was_taken() -> None:
    """Exchange paces mails there for hours; sending again would send twice."""
    [receipt] = await Wire(by_folder(outbox=["AAkO"])).graph.ask(ACCOUNT, [mail()], TOKEN)
    assert isinstance(receipt, Receipt)
    assert (receipt.provider_id, receipt.note) == ("AAkO", "It waits in the Outbox.")


async def test_a_draft_says_nothing() -> None:
    """A copy in Drafts may still go: neither sent nor free to be sent again."""
    with pytest.raises(DeliveryInDoubt):
        await Wire(by_folder(drafts=["AAkD"])).graph.ask(ACCOUNT, [mail()], TOKEN)


async def test_several_mails_are_asked_for_in_a_batch() -> None:
    """One question each, so that each answer belongs to one mail; what was found is not asked for again."""
    answers = [{"responses": [inner(1, 200, body={"value": []}), inner(0, 200, body={"value": [{"id": "AAk0"}]})]}]
    wire = Wire(httpx.Response(200, json=answers[0]), by_folder())
    assert await wire.graph.ask(ACCOUNT, [mail("s1"), mail("s2")], TOKEN) == [Receipt("found", "AAk0"), None]
    requests = wire.body()["requests"]
    assert all(request["method"] == "GET" and request["headers"]["Prefer"] == 'IdType="ImmutableId"' for request in requests)
    assert [("'s1'" in unquote(r["url"]), "'s2'" in unquote(r["url"])) for r in requests] == [(True, False), (False, True)]
    assert len(wire.requests) == 3


FAILURES: list[tuple[httpx.Response | Exception, type]] = [
    (error(401, "InvalidAuthenticationToken"), TokenRejected),
    (error(403, "ErrorAccessDenied"), NotSent),
    (error(404, "ErrorInvalidUser"), NotSent),
    (error(429, "TooManyRequests"), Throttled),
    (error(503, "ServerBusy"), Throttled),
    (error(500, "ErrorInternalServerError"), NotSent),
    (httpx.Response(200, text="<html>"), NotSent),
    (httpx.ReadTimeout("slow"), NotSent),
    (httpx.ConnectError("refused"), NotSent),
]


@pytest.mark.parametrize(("answer", "kind"), FAILURES)
async def test_a_question_that_failed_is_no_answer(answer: httpx.Response | Exception, kind: type[Exception]) -> None:
    """Whatever goes wrong with the question, it is never taken for "not found"; nor where a batch of them fails, in whole or part."""
    with pytest.raises(kind):
        await Wire(answer).graph.ask(ACCOUNT, [mail()], TOKEN)
    with pytest.raises((kind, NotSent)):
        await Wire(answer).graph.ask(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)
    if isinstance(answer, httpx.Response) and answer.status_code != 200:
        part = {"responses": [inner(0, 200, body={"value": []}), inner(1, answer.status_code, body=json.loads(answer.content))]}
        with pytest.raises(kind):
            await Wire(httpx.Response(200, json=part)).graph.ask(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)


async def test_a_question_without_its_answer_is_no_answer() -> None:
    """A batch that leaves one out says nothing of it."""
    part = {"responses": [inner(0, 200, body={"value": []})]}
    with pytest.raises(NotSent):
        await Wire(httpx.Response(200, json=part)).graph.ask(ACCOUNT, [mail("s1"), mail("s2")], TOKEN)


def delta(*items: dict[str, Any], **links: str) -> httpx.Response:
    return httpx.Response(200, json={"value": list(items)} | {f"@odata.{name}Link": link for name, link in links.items()})


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"@odata.etag": "W/1", "id": name, "receivedDateTime": "2026-11-24T10:00:00Z"} | more


async def test_the_first_page_and_the_next() -> None:
    """The first asks for ids and dates of one folder; the next is the link as it came, whatever shape it has."""
    wire = Wire(delta(item("a"), next=DELTA), delta(item("b"), delta=DELTA + "y"))
    first = await wire.graph.page(ACCOUNT, None, TOKEN)
    assert first == Page((Arrival("a", datetime(2026, 11, 24, 10, tzinfo=UTC)),), DELTA, last=False)
    second = await wire.graph.page(ACCOUNT, first.next, TOKEN, ids_only=True)
    assert (second.next, second.last) == (DELTA + "y", True)
    assert [str(request.url) for request in wire.requests] == [FIRST, DELTA]
    prefer = [request.headers["Prefer"] for request in wire.requests]
    assert prefer == ['IdType="ImmutableId", odata.maxpagesize=50', 'IdType="ImmutableId", odata.maxpagesize=500']


async def test_what_was_removed_or_only_changed_is_no_arrival() -> None:
    """Removals carry `@removed`, an update may come without its date; neither is a mail that arrived."""
    wire = Wire(delta(item("gone", **{"@removed": {"reason": "deleted"}}), {"id": "changed", "isRead": True}, item("new"), delta=DELTA))
    page = await wire.graph.page(ACCOUNT, None, TOKEN)
    assert [arrival.id for arrival in page.arrivals] == ["new"]


@pytest.mark.parametrize(
    "link", ["https://evil.example/v1.0/x", "http://graph.example/v1.0/x", "https://graph.example.evil.example/", "//[", "/x"]
)
async def test_a_link_to_another_host_is_not_followed(link: str) -> None:
    """Our token would go there: a page that links elsewhere is an error, a stored link from elsewhere a lost cursor."""
    wire = Wire(delta(next=link))
    with pytest.raises(NotSent, match="link_foreign"):
        await wire.graph.page(ACCOUNT, None, TOKEN)
    with pytest.raises(CursorLost):
        await wire.graph.page(ACCOUNT, link, TOKEN)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(410, headers={"Location": FIRST}),
        error(410, "resyncRequired"),
        error(400, "SyncStateNotFound"),
        error(404, "syncStateNotFound"),
        error(400, "SyncStateInvalid"),
        error(400, "InvalidSyncStateData"),
        error(409, "resyncChangesApplyDifferences"),
    ],
)
async def test_a_forgotten_cursor_is_told_apart(answer: httpx.Response) -> None:
    """Any of the answers that ask for a new beginning."""
    with pytest.raises(CursorLost):
        await Wire(answer).graph.page(ACCOUNT, DELTA, TOKEN)


@pytest.mark.parametrize(("answer", "kind"), [*FAILURES, (delta(), NotSent)])
async def test_a_page_that_failed(answer: httpx.Response | Exception, kind: type[Exception]) -> None:
    """Each fault says whether the token, the account, the pace or the provider is at fault."""
    with pytest.raises(kind):
        await Wire(answer).graph.page(ACCOUNT, DELTA, TOKEN)


async def test_a_mail_as_it_came() -> None:
    """The MIME of a mail, byte for byte, by its quoted id."""
    wire = Wire(httpx.Response(200, content=b"From: a@b\r\n\r\n\xff", headers={"Content-Type": "text/plain"}))
    assert await wire.graph.mime(ACCOUNT, "AA/k+=", TOKEN) == b"From: a@b\r\n\r\n\xff"
    assert str(wire.requests[0].url).endswith("/messages/AA%2Fk%2B%3D/$value")


async def test_a_mail_that_is_gone_and_one_that_is_corrupt() -> None:
    """Gone is None; a mail that Exchange can't put into words is refused for good; else the question may be asked again."""
    assert await Wire(error(404, "ErrorItemNotFound")).graph.mime(ACCOUNT, "AAk", TOKEN) is None
    with pytest.raises(Refused):
        await Wire(error(500, "ErrorMimeContentConversionFailed")).graph.mime(ACCOUNT, "AAk", TOKEN)
    with pytest.raises(NotSent):
        await Wire(error(404, "ErrorInvalidUser")).graph.mime(ACCOUNT, "AAk", TOKEN)
    with pytest.raises(NotSent):  # a proxy's page under a good status
        await Wire(httpx.Response(200, content=b"<html>", headers={"Content-Type": "text/html"})).graph.mime(ACCOUNT, "AAk", TOKEN)
