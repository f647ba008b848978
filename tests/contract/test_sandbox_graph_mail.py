"""Mails in the sandbox's Graph: listed, filtered, drafted, changed, moved and answered; their properties and headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.contract.sandbox_graph import (
    IMMUTABLE,
    MIXED,
    PDF,
    SIGNED,
    STAMP,
    TEXT,
    City,
    Office,
    city,
    encode,
    fine,
    link,
    person,
    refused,
    source,
    stamped,
    with_stamp,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest.fixture
def office(town: City) -> Office:
    return town.office()


async def test_pages(office: Office) -> None:
    """Ten to a page, or as many as $top or the preference say; nextLink goes on with the same options until all were seen once."""
    for number in range(23):
        await office.draft(subject=f"Mail {number}")
    seen: list[dict[str, Any]] = []
    page = await office.get("messages?$select=subject&$count=true")
    while "@odata.nextLink" in page:
        assert len(page["value"]) == 10
        seen += page["value"]
        page = await office.get(link(page))
    seen += page["value"]
    assert len({one["id"] for one in seen}) == page["@odata.count"] == 23
    assert [one["subject"] for one in seen] == [f"Mail {number}" for number in reversed(range(23))]
    assert all(set(one) == {"@odata.etag", "id", "subject"} for one in seen)
    assert len(await office.values("messages?$top=15&$skip=20")) == 3
    assert len(await office.values("messages?top=7")) == 7
    answer = await office.ask("GET", "messages", headers={"Prefer": "odata.maxpagesize=4"})
    assert (len(answer.json()["value"]), answer.headers["preference-applied"]) == (4, "odata.maxpagesize=4")
    assert (await office.ask("GET", "messages/$count")).text == "23"
    assert (await office.ask("GET", "mailFolders/drafts/messages/$count?$filter=subject eq 'mail 7'")).text == "1"


FILTERS = {
    "isRead eq true": "abc",
    "isRead ne false and isDraft eq true": "abc",
    "subject eq 'ALPHA'": "a",
    "not startswith(subject,'al')": "bc",
    "contains(subject,'ET') or endswith(subject,'ma')": "bc",
    "contains(body/content,'two') eq true": "b",
    "(importance eq 'high' or subject eq 'beta') and isDraft eq true": "ab",
    "from/emailAddress/address ne 'x@y.example'": "abc",
    "subject gt 'alpha' and subject le 'beta'": "b",
    "receivedDateTime ge 2020-01-01": "abc",
    "receivedDateTime lt 2020-01-01T00:00:00.1234567Z": "",
    "sentDateTime ge 2020-01-01T00:00:00+02:00": "abc",
    "categories/any(c:c eq 'red')": "a",
    "hasAttachments eq true": "c",
    "subject eq 'it''s'": "",
    "subject ne null": "abc",
}


async def test_filters(office: Office) -> None:
    """Comparisons, functions, and, or, not, brackets, dates and collections choose the right mails; texts compare without their case."""
    await office.draft(subject="alpha", importance="high", categories=["Red"])
    await office.draft(subject="beta", body={"contentType": "text", "content": "One Two"})
    await office.draft(subject="comma", attachments=[PDF])
    for text, expected in FILTERS.items():
        found = await office.values(f"messages?$filter={quote(text)}")
        assert "".join(sorted(one["subject"][0] for one in found)) == expected, text


BAD_OPTIONS = [
    "$filter=",
    "$filter=subject",
    "$filter=subject eq",
    "$filter=subject eq 'x",
    "$filter=subject eq 'x' and",
    "$filter=subject like 'x'",
    "$filter=subject eq true",
    "$filter=isRead eq 'true'",
    "$filter=receivedDateTime ge 2024-13-45",
    "$filter=receivedDateTime ge 'today'",
    "$filter=colour eq 'red'",
    "$filter=from eq 'x'",
    "$filter=body gt 'x'",
    "$filter=toRecipients/emailAddress/address eq 'x'",
    "$filter=conversationIndex gt 'x'",
    "$filter=contains(receivedDateTime,'2024')",
    "$filter=contains(subject,null)",
    "$filter=contains(subject,'x'",
    "$filter=toRecipients/any(r:r eq 'x')",
    "$filter=singleValueExtendedProperties/any(e:e/value eq 'x')",
    "$filter=singleValueExtendedProperties/any(e:e/id ne 'String 0x1000')",
    "$filter=singleValueExtendedProperties/any(e:e/id eq 'mine')",
    "$filter=singleValueExtendedProperties/any(e:e/id eq 'String 0x1000' and e/value like 'x')",
    "$filter=" + "(" * 5000,
    "$filter=isRead eq true;drop",
    "$orderby=colour",
    "$orderby=from",
    "$orderby=toRecipients",
    "$orderby=subject upwards",
    "$filter=isRead eq true&$orderby=receivedDateTime",
    "$top=0",
    "$top=1001",
    "$top=x",
    "$top=²",
    "$skip=-1",
    "$select=colour",
    "$expand=colour",
    "$expand=singleValueExtendedProperties",
    "$expand=multiValueExtendedProperties",
    "$search=x",
]


@pytest.mark.parametrize("options", BAD_OPTIONS)
async def test_options_that_graph_refuses(office: Office, options: str) -> None:
    """Each is 400 with Graph's shape, whether there is a mail to trip over or not."""
    await office.draft(subject="alpha", conversationIndex="AQ==", toRecipients=[person(office.ben)])
    assert refused(await office.ask("GET", f"messages?{quote(options, safe='$=&')}"))[0] == 400


async def test_order(office: Office) -> None:
    """Newest first by itself; by what is asked for otherwise, where the filter names the same property first."""
    for subject, importance in (("b", "high"), ("a", "low"), ("c", "high")):
        await office.draft(subject=subject, importance=importance)

    async def subjects(options: str) -> str:
        return "".join(one["subject"] for one in await office.values(f"messages?{quote(options, safe='$=&')}"))

    assert await subjects("") == "cab"
    assert await subjects("$orderby=subject") == "abc"
    assert await subjects("$orderby=subject desc") == "cba"
    assert await subjects("$orderby=importance asc,subject desc") == "cba"
    assert await subjects("$orderby=from/emailAddress/address,subject") == "abc"
    both = "$filter=importance eq 'high' and subject ne 'x'&$orderby=importance,subject"
    assert await subjects(both) == "bc"
    reverse = "$filter=subject ne 'x' and importance eq 'high'&$orderby=importance,subject"
    answer = await office.ask("GET", f"messages?{quote(reverse, safe='$=&')}")
    assert refused(answer) == (400, "InefficientFilter")


async def test_folders(office: Office) -> None:
    """The well-known ones by name, new ones by id, with counts; a second of one name is refused."""
    names = {one["displayName"] for one in await office.values("mailFolders?$top=20")}
    assert {"Inbox", "Drafts", "Sent Items", "Deleted Items", "Outbox"} <= names
    assert "Deletions" not in names
    made = fine(await office.ask("POST", "mailFolders/inbox/childFolders", json={"displayName": "Bills"}), 201)
    assert refused(await office.ask("POST", "mailFolders/inbox/childFolders", json={"displayName": "bills"})) == (400, "ErrorFolderExists")
    assert refused(await office.ask("POST", "mailFolders", json={})) == (400, "ErrorRequiredPropertyMissing")
    fine(await office.ask("POST", f"mailFolders/{made['id']}/messages", json={"subject": "One", "isRead": False}), 201)
    shown = await office.get(f"mailFolders/{made['id']}")
    assert (shown["totalItemCount"], shown["unreadItemCount"]) == (1, 1)
    assert [one["displayName"] for one in await office.values("mailFolders/inbox/childFolders")] == ["Bills"]
    assert (await office.get("mailFolders/inbox"))["childFolderCount"] == 1
    assert (await office.get("mailFolders/msgfolderroot"))["childFolderCount"] >= 8
    page = await office.get("mailFolders?$top=3")
    assert len(await office.values(link(page))) == 3


async def test_a_draft_is_written_and_changed(office: Office) -> None:
    """Created where asked, shown as stored, changed by PATCH member by member; what only Exchange sets is refused."""
    answer = await office.ask("POST", "messages", json={"subject": "One", "toRecipients": [person(office.ben, "Ben")]})
    made = fine(answer, 201)
    assert (await office.get(answer.headers["location"]))["id"] == made["id"]
    assert (made["isDraft"], made["importance"], made["toRecipients"]) == (True, "normal", [person(office.ben, "Ben")])
    assert made["from"]["emailAddress"]["address"] == office.anna
    changed = fine(await office.ask("PATCH", f"messages/{made['id']}", json={"subject": "Two", "body": {"content": "Hi"}}), 200)
    assert (changed["subject"], changed["bodyPreview"], changed["toRecipients"]) == ("Two", "Hi", made["toRecipients"])
    assert changed["changeKey"] != made["changeKey"]
    assert fine(await office.ask("PATCH", f"messages/{made['id']}", json={"importance": None}), 200)["importance"] == "normal"
    for name in ("id", "isDraft", "sentDateTime", "hasAttachments", "webLink"):
        value = True if name in ("isDraft", "hasAttachments") else "2024-01-01T00:00:00Z"
        assert refused(await office.ask("PATCH", f"messages/{made['id']}", json={name: value})) == (400, "ErrorInvalidPropertySet")
    headers = {"internetMessageHeaders": [{"name": "x-a", "value": "1"}]}
    assert refused(await office.ask("PATCH", f"messages/{made['id']}", json=headers)) == (400, "ErrorInvalidPropertySet")


async def test_what_is_refused_changes_nothing(office: Office) -> None:
    """A PATCH with one bad member leaves the others alone as well."""
    made = await office.draft(subject="One", **with_stamp("s1"))
    bad = {"subject": "Two", "singleValueExtendedProperties": [{"id": STAMP, "value": "s2"}, {"id": "mine", "value": "x"}]}
    assert refused(await office.ask("PATCH", f"messages/{made['id']}", json=bad)) == (400, "ErrorInvalidExtendedProperty")
    assert (await office.get(f"messages/{made['id']}"))["subject"] == "One"
    assert await office.values(f"messages?{stamped('s2')}") == []


async def test_a_sent_mail_says_what_it_said(office: Office) -> None:
    """Flags and categories of it may change, its words may not; and it is not sent again."""
    got = await office.arrive()
    where = f"messages/{got['id']}"
    changed = fine(await office.ask("PATCH", where, user=office.ben, json={"isRead": True, "categories": ["red"]}), 200)
    assert (changed["isRead"], changed["categories"]) == (True, ["red"])
    assert refused(await office.ask("PATCH", where, user=office.ben, json={"subject": "x"})) == (403, "ErrorAccessDenied")
    assert refused(await office.ask("POST", f"{where}/send", user=office.ben)) == (400, "ErrorInvalidOperation")
    raw = {"content": encode(SIGNED), "headers": TEXT}
    assert refused(await office.ask("PUT", f"{where}/$value", user=office.ben, **raw)) == (400, "ErrorInvalidOperation")


async def test_a_draft_is_sent(office: Office) -> None:
    """It leaves the drafts under its immutable id, and shows in Sent Items and in the inbox with the same Message-ID."""
    made = fine(await office.ask("POST", "messages", json={"toRecipients": [person(office.ben)]}, headers=IMMUTABLE), 201)
    assert (await office.ask("POST", f"messages/{made['id']}/send")).status_code == 202
    sent = await office.get(f"messages/{made['id']}", headers=IMMUTABLE)
    assert (sent["isDraft"], sent["parentFolderId"]) == (False, (await office.get("mailFolders/sentitems"))["id"])
    assert await office.values("mailFolders/drafts/messages") == []
    [got] = await office.values("mailFolders/inbox/messages", user=office.ben)
    assert (got["internetMessageId"], got["isRead"]) == (made["internetMessageId"], False)
    assert got["id"] != made["id"]


async def test_ids_across_a_move(office: Office) -> None:
    """A move gives a mail a new id and takes the old one away; its immutable id stays, and either finds it."""
    old = await office.draft(subject="One")
    lasting = (await office.get(f"messages/{old['id']}", headers=IMMUTABLE))["id"]
    assert lasting != old["id"]
    moved = fine(await office.ask("POST", f"messages/{old['id']}/move", json={"destinationId": "archive"}), 201)
    assert moved["id"] not in (old["id"], lasting)
    assert refused(await office.ask("GET", f"messages/{old['id']}")) == (404, "ErrorItemNotFound")
    for key in (moved["id"], lasting):
        answer = await office.ask("GET", f"messages/{key}", headers=IMMUTABLE)
        assert answer.json()["id"] == lasting
        assert "ImmutableId" in answer.headers["preference-applied"]
    again = await office.ask("POST", f"messages/{lasting}/move", json={"DestinationId": "inbox"}, headers=IMMUTABLE)
    assert fine(again, 201)["id"] == lasting
    assert refused(await office.ask("POST", f"messages/{lasting}/move", json={"destinationId": "attic"})) == (404, "ErrorItemNotFound")
    assert refused(await office.ask("POST", f"messages/{lasting}/move", json={}))[0] == 400


async def test_copy_and_delete(office: Office) -> None:
    """A copy has all that the original has; DELETE is a move to Deleted Items, a second one out of sight, permanentDelete for good."""
    several = {"multiValueExtendedProperties": [{"id": STAMP + "s", "value": ["x", "y"]}]}
    extension = {"@odata.type": "microsoft.graph.openTypeExtension", "extensionName": "example.mine", "colour": "red"}
    made = await office.draft(subject="One", attachments=[PDF], extensions=[extension], **with_stamp("s1"), **several)
    copied = fine(await office.ask("POST", f"messages/{made['id']}/copy", json={"destinationId": "archive"}), 201)
    expand = f"attachments,extensions,singleValueExtendedProperties($filter=id eq '{STAMP}'),"
    expand += f"multiValueExtendedProperties($filter=id eq '{STAMP}s')"
    shown = await office.get(f"messages/{copied['id']}?$expand={quote(expand, safe='$')}")
    assert shown["attachments"][0]["contentBytes"] == PDF["contentBytes"]
    assert shown["extensions"] == [extension]
    assert [one["value"] for one in shown["singleValueExtendedProperties"]] == ["s1"]
    assert [one["value"] for one in shown["multiValueExtendedProperties"]] == [["x", "y"]]
    assert (await office.ask("DELETE", f"messages/{copied['id']}")).status_code == 204
    [deleted] = await office.values("mailFolders/deleteditems/messages")
    assert (await office.ask("DELETE", f"messages/{deleted['id']}")).status_code == 204
    assert [one["id"] for one in await office.values("messages")] == [made["id"]]
    assert (await office.ask("POST", f"messages/{made['id']}/permanentDelete")).status_code == 204
    assert refused(await office.ask("GET", f"messages/{made['id']}")) == (404, "ErrorItemNotFound")


async def test_extended_properties(office: Office) -> None:
    """Kept, found by the one filter that names them, read by $expand only; the property's name has a case, its value has none."""
    await office.send("First", **with_stamp("Stamp-1"))
    await office.send("Second", **with_stamp("stamp-2"))
    sent = "mailFolders/sentitems/messages"
    assert [one["subject"] for one in await office.values(f"{sent}?{stamped('sTAMP-1')}")] == ["First"]
    assert await office.values(f"{sent}?{stamped('stamp-1', STAMP.replace('TestStamp', 'teststamp'))}") == []
    assert len(await office.values(f"{sent}?{stamped('stamp-1', STAMP.replace('6a4f6d1c', '6A4F6D1C'))}")) == 1
    for test, found in (("contains(ep/value,'AMP')", 2), ("startswith(ep/value,'x')", 0), ("ep/value ne 'stamp-1'", 1)):
        text = f"singleValueExtendedProperties/any(ep: {test} and ep/id eq '{STAMP}') and isDraft eq false"
        assert len(await office.values(f"{sent}?$filter={quote(text)}")) == found, test
    shown = (await office.values(sent))[0]
    assert "singleValueExtendedProperties" not in shown
    expand = quote(f"singleValueExtendedProperties($filter=id eq '{STAMP}' or id eq 'String 0x1000')", safe="$")
    [read] = (await office.get(f"messages/{shown['id']}?$expand={expand}"))["singleValueExtendedProperties"]
    assert read == {"id": STAMP, "value": "stamp-2"}


async def test_an_extended_property_is_changed_and_taken_away(office: Office) -> None:
    """After a PATCH only the new value finds the mail; a null takes it away."""
    made = await office.draft(**with_stamp("s1"))
    await office.ask("PATCH", f"messages/{made['id']}", json=with_stamp("s2"))
    assert await office.values(f"messages?{stamped('s1')}") == []
    assert len(await office.values(f"messages?{stamped('s2')}")) == 1
    await office.ask("PATCH", f"messages/{made['id']}", json={"singleValueExtendedProperties": [{"id": STAMP, "value": None}]})
    assert await office.values(f"messages?{stamped('s2')}") == []
    expand = quote(f"singleValueExtendedProperties($filter=id eq '{STAMP}')", safe="$")
    assert "singleValueExtendedProperties" not in await office.get(f"messages/{made['id']}?$expand={expand}")


HEADER = "String {00020386-0000-0000-C000-000000000046} Name X-Stamp"


async def test_named_headers(office: Office) -> None:
    """An x- header is a named property that finds its mail, given as JSON or in MIME; headers show only where they are selected."""
    await office.send("As JSON", internetMessageHeaders=[{"name": "X-Stamp", "value": "s1"}])
    raw = f"From: {office.anna}\r\nTo: {office.ben}\r\nSubject: As MIME\r\nX-Stamp: s2\r\n\r\nHi\r\n"
    assert (await office.send_mime(raw.encode())).status_code == 202
    for stamp, subject in (("s1", "As JSON"), ("s2", "As MIME")):
        for user, folder in ((office.anna, "sentitems"), (office.ben, "inbox")):
            [found] = await office.values(f"mailFolders/{folder}/messages?{stamped(stamp, HEADER)}", user=user)
            assert found["subject"] == subject
            assert "internetMessageHeaders" not in found
            shown = await office.get(f"messages/{found['id']}?$select=internetMessageHeaders", user=user)
            assert {"name": "X-Stamp", "value": stamp} in shown["internetMessageHeaders"]


async def test_a_message_id_is_searched(office: Office) -> None:
    """Both copies of a mail answer to its Message-ID, each in its own mailbox; a given one is kept."""
    await office.send(internetMessageId="<own@mailroom.example>")
    text = quote("internetMessageId eq '<OWN@mailroom.example>'")
    assert len(await office.values(f"messages?$filter={text}")) == 1
    assert len(await office.values(f"messages?$filter={text}", user=office.ben)) == 1


async def test_replies(office: Office) -> None:
    """A reply goes where the original wants it, stays in its conversation, quotes it, and carries the threading headers."""
    got = await office.receive(SIGNED + f"Reply-To: {office.ben}\r\nCc: c@x.example\r\n\r\n<Hello>\r\n".encode())
    reply = await office.ask("POST", f"messages/{got['id']}/reply", json={"comment": "<b>Thanks"})
    assert reply.status_code == 202
    [answered] = await office.values("mailFolders/inbox/messages", user=office.ben)
    assert answered["subject"] == "RE: From afar"
    assert "&lt;b&gt;Thanks" in answered["body"]["content"]
    assert "&lt;Hello&gt;" in answered["body"]["content"]
    said = await source(office, answered, office.ben)
    assert (said["In-Reply-To"], said["References"]) == ("<1@far.example>", "<1@far.example>")
    [sent] = await office.values("mailFolders/sentitems/messages")
    assert sent["conversationId"] == got["conversationId"]
    both = {"comment": "x", "message": {"body": {"content": "y"}}}
    assert refused(await office.ask("POST", f"messages/{got['id']}/reply", json=both)) == (400, "ErrorInvalidParameter")


async def test_replies_as_drafts(office: Office) -> None:
    """createReply, createReplyAll and createForward make drafts that can be changed and sent; a forward takes the files along."""
    other = f"To: {office.anna}, d@x.example\r\nCc: c@x.example\r\n"
    raw = SIGNED.replace(b"To: anna@mailroom.example\r\n", other.encode()) + b"\r\nHello\r\n"
    got = await office.receive(raw)

    async def make(action: str, **body: Any) -> dict[str, Any]:
        return fine(await office.ask("POST", f"messages/{got['id']}/{action}", json=body), 201)

    def addresses(people: list[dict[str, Any]]) -> list[str]:
        return [one["emailAddress"]["address"] for one in people]

    assert addresses((await make("createReply"))["toRecipients"]) == ["ann@far.example"]
    to_all = await make("createReplyAll", message={"subject": "Mine", "body": {"contentType": "text", "content": "own"}})
    assert (to_all["subject"], to_all["body"]["content"], to_all["isDraft"]) == ("Mine", "own", True)
    assert addresses(to_all["toRecipients"] + to_all["ccRecipients"]) == ["ann@far.example", "d@x.example", "c@x.example"]
    file = await office.receive(SIGNED + MIXED.partition("Sender: a@b.example\r\n")[2].encode())
    forward = await office.ask("POST", f"messages/{file['id']}/createForward", json={"toRecipients": [person(office.ben)]})
    made = fine(forward, 201)
    assert (made["subject"], len(await office.values(f"messages/{made['id']}/attachments"))) == ("FW: From afar", 2)
    assert (await office.ask("POST", f"messages/{made['id']}/send")).status_code == 202
    assert await office.inbox() == ["FW: From afar"]
    refusal = await office.ask("POST", f"messages/{file['id']}/forward", json={"comment": "to nobody"})
    assert refused(refusal) == (400, "ErrorInvalidRecipients")


async def test_a_mail_without_a_sender_is_answered_with_a_refusal(office: Office) -> None:
    """Nobody to reply to is an invalid recipient, and no accident."""
    got = await office.receive(b"Subject: Nobody\r\n\r\nHello\r\n")
    assert refused(await office.ask("POST", f"messages/{got['id']}/reply", json={"comment": "x"})) == (400, "ErrorInvalidRecipients")
    assert fine(await office.ask("POST", f"messages/{got['id']}/createReply"), 201)["toRecipients"] == []
