"""The sandbox's control as tests in any language use it, and the pages that people look at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.contract.sandbox_graph import City, Office, city, link, person, refused, with_stamp

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[City]:
    async with city(tmp_path_factory.mktemp("city")) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def office(town: City) -> AsyncIterator[Office]:
    yield town.office()
    town.faults.clear()


async def control(office: Office, method: str, path: str, **more: Any) -> httpx.Response:
    return await office.city.http.request(method, office.city.control + path, **more)


async def page(office: Office, path: str) -> str:
    answer = await control(office, "GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return answer.text


async def test_a_fault_is_set_shown_and_cleared(office: Office) -> None:
    """The documented example works as written; a number is as good as its text; hits are counted; DELETE ends it all."""
    spec = {"service": "graph", "path": "sendMail", "answer": "504", "after_accepting": True, "retry_after": 1, "times": 3}
    answer = await control(office, "POST", "/faults", json=spec)
    assert answer.status_code == 201
    assert spec.items() <= answer.json().items()
    assert (await control(office, "POST", "/faults", json={"service": "graph", "answer": 503, "path": "move"})).json()["answer"] == "503"
    assert (await office.send()).status_code == 504
    assert await office.inbox() == ["Hello"]
    assert [one["hits"] for one in (await control(office, "GET", "/faults")).json()] == [1, 0]
    assert (await control(office, "DELETE", "/faults")).status_code == 204
    assert (await control(office, "GET", "/faults")).json() == []
    assert (await office.send()).status_code == 202


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "service"),
        ({"service": "graph"}, "answer"),
        ({"service": "smtp?", "answer": "500"}, "service"),
        ({"service": ["graph"], "answer": "500"}, "service"),
        ({"service": "graph", "answer": "teapot"}, "answer"),
        ({"service": "graph", "answer": 200}, "answer"),
        ({"service": "graph", "answer": "500", "times": 0}, "times"),
        ({"service": "graph", "answer": "500", "times": True}, "times"),
        ({"service": "graph", "answer": "500", "times": 1.5}, "times"),
        ({"service": "graph", "answer": "500", "path": 7}, "path"),
        ({"service": "graph", "answer": "500", "method": 7}, "method"),
        ({"service": "graph", "answer": "500", "after_accepting": "yes"}, "after_accepting"),
        ({"service": "graph", "answer": "429", "retry_after": "1"}, "retry_after"),
        ({"service": "graph", "answer": "429", "retry_after": -1}, "retry_after"),
        ({"service": "graph", "delay": float("inf")}, "delay"),
        ({"service": "graph", "lag": float("nan")}, "lag"),
        ({"service": "graph", "answer": "500", "colour": "red"}, "colour"),
    ],
)
async def test_a_bad_fault_is_refused_by_field(office: Office, spec: dict[str, Any], field: str) -> None:
    """The answer names the field, what was found and what would be right; nothing is set."""
    answer = await control(office, "POST", "/faults", content=json.dumps(spec))
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert answer.json()["detail"].startswith(f"{field}: found ")
    assert "wanted" in answer.json()["detail"]
    assert (await control(office, "GET", "/faults")).json() == []


@pytest.mark.parametrize("path", ["/faults", "/revoke", "/forget-delta"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_object(office: Office, path: str, body: bytes) -> None:
    """400, and it says so."""
    answer = await control(office, "POST", path, content=body)
    assert answer.status_code == 400
    assert "JSON" in answer.text


async def test_what_was_sent(office: Office) -> None:
    """One row for each mailbox and stamp, with how often that was accepted: an own property, an x- header, else the Message-ID."""

    async def rows() -> dict[str, dict[str, Any]]:
        found = (await control(office, "GET", "/sent")).json()
        return {row["stamp"]: row for row in found if row["mailbox"] == office.anna}

    await office.send("Once", **with_stamp("s1"))
    await office.send("Twice", internetMessageHeaders=[{"name": "x-mailroom-stamp", "value": "s2"}])
    await office.send("Twice", internetMessageHeaders=[{"name": "x-mailroom-stamp", "value": "s2"}])
    await office.send("Plain", internetMessageId="<1@mailroom.example>")
    assert (await office.send("Refused", toRecipients=[], **with_stamp("s3"))).status_code == 400
    found = await rows()
    assert {stamp: (row["subject"], row["copies"]) for stamp, row in found.items()} == {
        "s1": ("Once", 1),
        "s2": ("Twice", 2),
        "<1@mailroom.example>": ("Plain", 1),
    }
    assert set(found["s1"]) == {"mailbox", "subject", "stamp", "copies"}
    await control(office, "POST", "/faults", json={"service": "graph", "answer": "cut", "after_accepting": True, "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await office.send("Lost", **with_stamp("s4"))
    assert (await rows())["s4"]["copies"] == 1


async def test_a_mail_from_outside(office: Office) -> None:
    """It is in that inbox at once, with a Message-ID and a date where it had none; an unknown mailbox is 404."""
    raw = b"From: Ann <ann@far.example>\r\nSubject: Hello\r\n\r\nFrom afar\r\n"
    answer = await control(office, "POST", f"/mail?to={office.anna}", content=raw)
    assert answer.status_code == 201
    [got] = await office.values("mailFolders/inbox/messages")
    assert (got["subject"], got["isRead"], got["internetMessageId"]) == ("Hello", False, answer.json()["internetMessageId"])
    for to in ("", "nobody@mailroom.example"):
        assert (await control(office, "POST", f"/mail?to={to}", content=raw)).status_code == 404


async def test_tokens_are_revoked(office: Office) -> None:
    """Those that the app has by now are refused, the next one is good; an unknown app is told which ones there are."""
    token = office.token()
    answer = await control(office, "POST", "/revoke", json={"app": "graph"})
    assert answer.json()["revoked"] >= 1
    assert refused(await office.ask("GET", "messages", token=token)) == (401, "InvalidAuthenticationToken")
    new = office.city.office()
    assert (await new.ask("GET", "messages")).status_code == 200
    for name in ("nobody", None, ["graph"]):
        answer = await control(office, "POST", "/revoke", json={"app": name})
        assert answer.status_code == 400
        assert "graph" in answer.text


@pytest.mark.parametrize(("body", "status"), [(None, 410), ({}, 410), ({"gone": True}, 410), ({"gone": False}, 404)])
async def test_delta_tokens_are_forgotten(office: Office, body: dict[str, Any] | None, status: int) -> None:
    """The next call with one is 410 Gone, or 404 on request."""
    following = link(await office.get("mailFolders/inbox/messages/delta"))
    assert (
        await control(office, "POST", "/forget-delta", json=body) if body else await control(office, "POST", "/forget-delta")
    ).is_success
    assert (await office.ask("GET", following)).status_code == status


class _Page(HTMLParser):
    """The elements, their links, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: dict[str, str] = {}
        self.hrefs: list[str] = []
        self.text = ""
        self._link = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = {name for name, _ in attrs}
        assert not {name for name in names if name.startswith("on") or name == "src"}, attrs
        self._link = dict(attrs).get("href") or "" if tag == "a" else ""
        self.hrefs += [self._link] if self._link else []

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._link:
            self.links[data] = self._link
            self._link = ""


async def test_the_pages(office: Office) -> None:
    """From the list of mailboxes one comes to a mailbox, to a mail, and to its MIME source as it came."""
    raw = b"From: ann@far.example\r\nSubject: Hello\r\nX-Odd: 1\r\n\r\nFrom afar\r\n"
    await control(office, "POST", f"/mail?to={office.anna}", content=raw)
    boxes = _Page(await page(office, "/"))
    box = _Page(await page(office, boxes.links[office.anna]))
    assert "Inbox: 1" in box.text
    mail = _Page(await page(office, box.links["Hello"]))
    assert "ann@far.example" in mail.text
    assert "From afar" in mail.text
    assert "X-Odd: 1" in mail.text
    source = await control(office, "GET", mail.links["Source"])
    assert source.headers["content-type"].startswith("text/plain")
    assert source.headers["x-content-type-options"] == "nosniff"
    assert source.content.endswith(raw)


async def test_the_pages_of_what_was_sent(office: Office) -> None:
    """A mail that came as JSON is shown as text, with its files and the source that Exchange would make of it."""
    html = {"contentType": "html", "content": "<p>Gr&uuml;&szlig;e</p>"}
    file = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.pdf", "contentType": "application/pdf", "contentBytes": "JVBERg=="}
    await office.send("Sent", body=html, attachments=[file])
    box = _Page(await page(office, f"/mailboxes/{office.anna}"))
    assert "Sent Items: 1" in box.text
    mail = _Page(await page(office, box.links["Sent"]))
    assert "Grüße" in mail.text
    assert "a.pdf, application/pdf, 4 bytes" in mail.text
    assert "multipart/alternative" in mail.text


async def test_the_pages_are_safe(office: Office) -> None:
    """What strangers write into subjects, names, files and bodies is text on the page: no element, no attribute, no script of theirs."""
    evil = "</title></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"
    person_ = person('"><script>@x.example', evil)
    file = {"@odata.type": "#microsoft.graph.fileAttachment", "name": evil, "contentType": evil, "contentBytes": "JVBERg=="}
    draft = await office.draft(subject=evil, toRecipients=[person_], body={"content": evil}, attachments=[file])
    raw = f"From: {evil} <a@b.example>\r\nSubject: {evil}\r\n\r\n{evil}\r\n".encode()
    await control(office, "POST", f"/mail?to={office.anna}", content=raw)
    folder = office.city.graph.office.mailbox(office.anna).add_folder(evil, "msgfolderroot")
    await office.ask("POST", f"messages/{draft['id']}/copy", json={"destinationId": folder.id})
    fixed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "a", "table", "thead", "tbody", "tr", "th", "td"}
    box = _Page(await page(office, f"/mailboxes/{office.anna}"))
    assert box.tags <= fixed
    mails = [where for where in box.hrefs if where.rpartition("/")[2].isdigit()]
    assert len(mails) == 3
    for where in mails:
        mail = _Page(await page(office, where))
        assert mail.tags <= fixed | {"pre", "ul", "li"}
        assert "<script>alert(1)" in mail.text


async def test_pages_of_nothing(office: Office) -> None:
    """An unknown mailbox or mail is 404; an empty mailbox says so; the headers forbid scripts."""
    for path in ("/mailboxes/nobody@mailroom.example", f"/mailboxes/{office.anna}/999999999", f"/mailboxes/{office.anna}/9/source"):
        assert (await control(office, "GET", path)).status_code == 404
    answer = await control(office, "GET", f"/mailboxes/{office.anna}")
    assert "No mail yet" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
