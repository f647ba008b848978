"""What mails in the sandbox's Graph are made of: source, files, uploads, and whatever strangers put into them."""

from __future__ import annotations

import base64
import email
import email.policy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.contract.sandbox_graph import FILE, MIXED, PDF, SIGNED, TEXT, City, Office, city, encode, fine, person, refused, source

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAILS = Path(__file__).parent.parent / "mail"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest.fixture
def office(town: City) -> Office:
    return town.office()


async def test_the_source_of_a_json_mail(office: Office) -> None:
    """Exchange derives a text part from html, keeps inline files beside it, and writes every address; Bcc only in one's own copy."""
    logo = FILE | {"name": "logo.png", "contentType": "image/png", "contentBytes": "UE5H", "isInline": True, "contentId": "logo"}
    html = {"contentType": "html", "content": "<style>b{}</style><p>Gr&uuml;&szlig;e</p><img src='cid:logo'>"}
    more = {"ccRecipients": [person("c@x.example", "Ümit")], "bccRecipients": [person("b@x.example")], "importance": "high"}
    got = await office.arrive("Zwölf €", body=html, attachments=[logo, PDF], **more)
    [sent] = await office.values("mailFolders/sentitems/messages")
    own, theirs = await source(office, sent), await source(office, got, office.ben)
    assert (own["Bcc"], theirs["Bcc"]) == ("b@x.example", None)
    assert (theirs["Subject"], theirs["Cc"], theirs["Importance"]) == ("Zwölf €", "Ümit <c@x.example>", "high")
    assert theirs["Message-ID"] == sent["internetMessageId"]
    plain, rich = theirs.get_body(("plain",)), theirs.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert (plain.get_content().strip(), "Gr&uuml;" in rich.get_content()) == ("Grüße", True)
    parts = {part.get_filename(): part for part in theirs.walk() if part.get_filename()}
    assert (parts["logo.png"]["Content-ID"], parts["a.pdf"].get_content()) == ("<logo>", b"%PDF")
    text = {"Prefer": 'outlook.body-content-type="text"'}
    assert (await office.get(f"messages/{got['id']}", user=office.ben, headers=text))["body"]["content"] == "Grüße"
    assert got["hasAttachments"] is True


async def test_the_source_of_a_mime_mail(office: Office) -> None:
    """It comes out as it went in, but for Bcc in the recipient's copy and a Message-ID and date where it had none."""
    head = f"From: {office.anna}\r\nTo: {office.ben}\r\nBcc: eve@x.example\r\nIn-Reply-To: <a@b>\r\nSubject: Ready\r\n"
    body = "\r\nBcc: is no header here\r\n"
    assert (await office.send_mime((head + body).encode())).status_code == 202
    [sent] = await office.values("mailFolders/sentitems/messages")
    [got] = await office.values("mailFolders/inbox/messages", user=office.ben)
    own = (await office.ask("GET", f"messages/{sent['id']}/$value")).content.decode()
    theirs = (await office.ask("GET", f"messages/{got['id']}/$value", user=office.ben)).content.decode()
    assert own.endswith(head + body)
    assert theirs.endswith(head.replace("Bcc: eve@x.example\r\n", "") + body)
    assert f"Message-ID: {sent['internetMessageId']}\r\n" in own
    assert [person_["emailAddress"]["address"] for person_ in sent["bccRecipients"]] == ["eve@x.example"]
    assert got["bccRecipients"] == []
    eve = f"From: eve@x.example\r\nTo: {office.ben}\r\n\r\nHi"
    assert refused(await office.send_mime(eve.encode())) == (403, "ErrorSendAsDenied")


async def test_a_mime_draft_is_changed(office: Office) -> None:
    """It is rebuilt from what it says: new words, old files, one Content-Type; and its source can be replaced as a whole."""
    raw = MIXED.format(ben=office.ben).replace("Sender: a@b.example\r\n", "").encode()
    made = fine(await office.ask("POST", "messages", content=encode(raw), headers=TEXT), 201)
    assert (await source(office, made))["References"] == "<1@x.example> <2@x.example>"
    shown = await office.get(f"messages/{made['id']}?$select=internetMessageHeaders")
    assert {"name": "References", "value": "<1@x.example> <2@x.example>"} in shown["internetMessageHeaders"]
    fine(await office.ask("PATCH", f"messages/{made['id']}", json={"subject": "Changed"}), 200)
    fine(await office.ask("POST", f"messages/{made['id']}/attachments", json=PDF), 201)
    rebuilt = await source(office, made)
    assert (rebuilt["Subject"], rebuilt["References"]) == ("Changed", "<1@x.example> <2@x.example>")
    assert len(rebuilt.get_all("Content-Type", [])) == 1
    names = {part.get_filename() or part.get_content_type() for part in rebuilt.iter_attachments()}
    assert names == {"a.pdf", "n.txt", "attachment"}
    inner = next(part for part in rebuilt.iter_attachments() if part.get_content_type() == "message/rfc822")
    assert inner.get_content()["Subject"] == "Inner"
    new = b"To: ben@x.example\r\nSubject: New\r\n\r\nAfresh\r\n"
    fine(await office.ask("PUT", f"messages/{made['id']}/$value", content=encode(new), headers=TEXT), 200)
    shown = await office.get(f"messages/{made['id']}?$expand=attachments")
    assert (shown["subject"], shown["body"]["content"], shown["attachments"]) == ("New", "Afresh\r\n", [])
    assert len(await office.values("messages")) == 1


async def test_attachments(office: Office) -> None:
    """Listed with and without content, fetched as JSON and raw, added, taken away; an unknown one is not found."""
    made = await office.draft(attachments=[PDF])
    where = f"messages/{made['id']}/attachments"
    added = await office.ask("POST", where, json=PDF | {"name": "b.pdf"})
    assert (await office.get(added.headers["location"]))["contentBytes"] == PDF["contentBytes"]
    listed = await office.values(f"{where}?$select=id,name,size,contentType,isInline")
    assert [(one["name"], one["size"], "contentBytes" in one) for one in listed] == [("a.pdf", 4, False), ("b.pdf", 4, False)]
    answer = await office.ask("GET", f"{where}/{listed[0]['id']}/$value")
    assert (answer.content, answer.headers["content-type"]) == (b"%PDF", "application/pdf")
    assert (await office.ask("DELETE", f"{where}/{listed[0]['id']}")).status_code == 204
    assert refused(await office.ask("GET", f"{where}/{listed[0]['id']}")) == (404, "ErrorItemNotFound")
    assert [one["name"] for one in await office.values(where)] == ["b.pdf"]


async def test_mails_and_links_attached(office: Office) -> None:
    """A mail attached as JSON or inside MIME is an item whose content is its source; a reference has no content to fetch."""
    item = {
        "@odata.type": "#microsoft.graph.itemAttachment",
        "name": "Inner",
        "item": {"@odata.type": "#microsoft.graph.message", "subject": "Inner", "body": {"content": "Inside"}, "attachments": [PDF]},
    }
    got = await office.arrive(attachments=[item, {"@odata.type": "#microsoft.graph.referenceAttachment", "name": "link"}])
    where = f"messages/{got['id']}/attachments"
    inner, reference = await office.values(where, user=office.ben)
    assert (inner["@odata.type"], "contentBytes" in inner) == ("#microsoft.graph.itemAttachment", False)
    raw = (await office.ask("GET", f"{where}/{inner['id']}/$value", user=office.ben)).content
    assert email.message_from_bytes(raw)["Subject"] == "Inner"
    assert b"Inside" in raw
    assert (await office.ask("GET", f"{where}/{reference['id']}/$value", user=office.ben)).status_code == 405
    outer = await source(office, got, office.ben)
    [attached] = [part for part in outer.iter_attachments() if part.get_content_type() == "message/rfc822"]
    assert attached.get_content()["Subject"] == "Inner"
    from_afar = await office.receive(SIGNED + MIXED.format(ben=office.ben).partition("Sender")[2].encode())
    kinds = [one["@odata.type"].rpartition(".")[2] for one in await office.values(f"messages/{from_afar['id']}/attachments")]
    assert kinds == ["itemAttachment", "fileAttachment"]


SIZE = 3 * 1024 * 1024 + 5


async def session(office: Office, draft: dict[str, Any], **item: Any) -> dict[str, Any]:
    asked = {"AttachmentItem": {"attachmentType": "file", "name": "big.bin", "size": SIZE, **item}}
    return fine(await office.ask("POST", f"messages/{draft['id']}/attachments/createUploadSession", json=asked), 201)


async def test_a_large_attachment_is_uploaded(office: Office) -> None:
    """In chunks, without a token, each answer saying where to go on; then it is in the mail byte for byte."""
    draft, data = await office.draft(toRecipients=[person(office.ben)]), bytes(range(256)) * (SIZE // 256) + b"ended"
    began = await session(office, draft, contentType="image/png", isInline=True, contentId="big")
    assert began["nextExpectedRanges"] == ["0-"]
    assert began["expirationDateTime"]
    for start in range(0, SIZE, 1 << 20):
        chunk = data[start : start + (1 << 20)]
        headers = {"Content-Range": f"bytes {start}-{start + len(chunk) - 1}/{SIZE}"}
        answer = await office.ask("PUT", began["uploadUrl"], token="", content=chunk, headers=headers)
        if start + len(chunk) < SIZE:
            assert answer.json()["nextExpectedRanges"] == [str(start + len(chunk))]
            assert answer.json()["ExpirationDateTime"] == began["expirationDateTime"]
    assert (answer.status_code, answer.content) == (201, b"")
    [made] = await office.values(f"messages/{draft['id']}/attachments?$select=id,name,size,contentId,isInline,contentType")
    assert quote(made["id"], safe="") in answer.headers["location"]
    assert (made["name"], made["size"], made["contentId"], made["isInline"]) == ("big.bin", SIZE, "big", True)
    assert (await office.ask("GET", f"messages/{draft['id']}/attachments/{made['id']}/$value")).content == data
    answer = await office.ask("PUT", began["uploadUrl"], token="", content=b"x", headers={"Content-Range": f"bytes 0-0/{SIZE}"})
    assert refused(answer)[0] == 404


async def test_wrong_ranges(office: Office) -> None:
    """A gap, a repetition, another size, more than said, no header, too much at once: 400 or 413, and the session goes on."""
    draft = await office.draft()
    where = (await session(office, draft))["uploadUrl"]

    async def put(range_: str, content: bytes) -> int:
        return (await office.ask("PUT", where, token="", content=content, headers={"Content-Range": range_} if range_ else {})).status_code

    assert await put(f"bytes 0-3/{SIZE}", b"good") == 200
    for range_, content in (
        (f"bytes 5-8/{SIZE}", b"late"),
        (f"bytes 0-3/{SIZE}", b"good"),
        (f"bytes 4-9/{SIZE}", b"less"),
        (f"bytes 4-7/{SIZE + 1}", b"size"),
        (f"bytes 4-{SIZE + 3}/{SIZE}", b"x" * SIZE),
        ("bytes four-seven", b"word"),
        ("", b"none"),
    ):
        assert await put(range_, content) == 400, range_
    assert await put(f"bytes 4-{4 + (4 << 20)}/{SIZE}", b"x" * ((4 << 20) + 1)) == 413
    assert (await office.ask("GET", where, token="")).json()["nextExpectedRanges"] == ["4"]
    assert (await office.ask("POST", where, token="")).status_code == 405
    assert (await office.ask("DELETE", where, token="")).status_code == 204
    assert await put(f"bytes 4-7/{SIZE}", b"gone") == 404
    assert await office.values(f"messages/{draft['id']}/attachments") == []


async def test_sessions_that_are_refused(office: Office) -> None:
    """Too small, too large, no name, no file, an unknown member; and one whose draft is gone is gone too."""
    draft = await office.draft()
    where = f"messages/{draft['id']}/attachments/createUploadSession"
    good = {"attachmentType": "file", "name": "a", "size": SIZE}
    for change, code in (
        ({"size": 1000}, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"),
        ({"size": 151 << 20}, "ErrorMessageSizeExceeded"),
        ({"name": None}, "ErrorInvalidParameter"),
        ({"attachmentType": "reference"}, "ErrorInvalidParameter"),
        ({"colour": "red"}, "RequestBodyRead"),
    ):
        assert refused(await office.ask("POST", where, json={"AttachmentItem": good | change})) == (400, code)
    assert refused(await office.ask("POST", where, json={"AttachmentItem": None}))[0] == 400
    began = await session(office, draft)
    await office.ask("POST", f"messages/{draft['id']}/permanentDelete")
    answer = await office.ask("PUT", began["uploadUrl"], token="", content=b"x", headers={"Content-Range": f"bytes 0-0/{SIZE}"})
    assert refused(answer) == (404, "ErrorItemNotFound")


HOSTILE = {
    "no headers at all": b"",
    "only a body": b"\r\n\r\nHello",
    "a date after all time": b"Date: Fri, 31 Dec 9999 23:59:59 -1400\r\nSubject: x\r\n\r\n",
    "half a character": b"Subject: =?utf-7?q?+2D0-?=\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n+2D0-",
    "escapes as a charset": b"Content-Type: text/plain; charset=unicode_escape\r\n\r\n\\ud800",
    "a charset that is none": b'Content-Type: text/plain; charset="rot13"\r\nSubject: =?x-none?b?gICA?=\r\n\r\n\xff\xfe',
    "broken base64 in a name": b"From: =?utf-8?b?a?= <a@b.example>\r\n\r\nx",
    "a folded header with bytes": b"X-Odd: a\r\n \xff\xfe\r\n\tb\r\nSubject: \xe4\r\n\r\nx",
    "a type of nothing": b"Content-Type: ;;;\r\nContent-Disposition: attachment; filename*=bogus'x'%ff\r\n\r\nx",
    "parts without end": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n",
    "many addresses": b"To: " + b"<" * 500 + b"a@b\r\nFrom: ((((\r\n\r\nx",
} | {path.name: path.read_bytes() for path in MAILS.glob("*.eml")}


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_whatever_arrives_can_be_shown(office: Office, name: str) -> None:
    """A strange mail is listed, read, copied, answered and forwarded like any other: nothing of it makes Graph fail."""
    got = await office.receive(HOSTILE[name])
    where = f"messages/{got['id']}"
    await office.get(f"{where}?$select=internetMessageHeaders,body,uniqueBody,subject&$expand=attachments")
    assert HOSTILE[name] in (await office.ask("GET", f"{where}/$value")).content
    for action in ("copy", "move"):
        got = fine(await office.ask("POST", f"messages/{got['id']}/{action}", json={"destinationId": "archive"}), 201)
    for action in ("createReplyAll", "createForward"):
        made = fine(await office.ask("POST", f"messages/{got['id']}/{action}", json={"comment": "x"}), 201)
        assert (await source(office, made))["From"]
    await office.get("mailFolders/archive/messages/delta")


async def test_whatever_is_written_can_be_shown(office: Office) -> None:
    """Line breaks and odd bytes in names, subjects, files and types stay inside their fields when the source is built."""
    odd = "a\r\nBcc: eve@x.example\u2028\x1cz"
    file = PDF | {"name": odd, "contentType": odd + "/x", "contentId": odd, "isInline": True}
    html = {"contentType": "html", "content": "<p>\x00" + odd}
    made = await office.draft(
        subject=odd, toRecipients=[person(odd, odd)], replyTo=[person(office.ben, odd)], body=html, attachments=[file, PDF | {"name": odd}]
    )
    await office.ask("PATCH", f"messages/{made['id']}", json={"internetMessageId": odd})
    said = await source(office, made)
    assert said["Bcc"] is None
    assert said["Subject"].startswith("a")
    fine(await office.ask("POST", f"messages/{made['id']}/createReply"), 201)
    assert base64.b64encode(b"%PDF").decode() in (await office.ask("GET", f"messages/{made['id']}?$expand=attachments")).text
