"""What the Gmail provider does in its own way, against the sandbox's Gmail, over TLS. Shared: test_senders.py, test_inboxes.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, Refused, Throttled, TooLarge
from mailroom.model.account import Account
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.page import Arrival
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.token import Token
from mailroom.providers import _gmail_json as json
from mailroom.providers import gmail, mime
from mailroom.providers.gmail import Gmail
from sandbox.google.mailbox import Mail, Mailbox
from sandbox.google.workspace import MODIFY, READONLY, SEND
from tests.contract import sandbox_google
from tests.contract.sandbox_google import ANNA, BEN, Office
from tests.fakes import FakeParts, FakeStore

MEGABYTE = 1024 * 1024


@dataclass
class Wire:
    office: Office
    gmail: Gmail

    def token(self, address: str = ANNA, scopes: tuple[str, ...] = (SEND, READONLY)) -> Token:
        return Token(self.office.workspace.issue(address, scopes), 2e9)

    def box(self, address: str) -> Mailbox:
        return self.office.google.office.mailbox(address)

    async def send(self, *mails: Outgoing, account: Account | None = None) -> list[Any]:
        return list(await self.gmail.send(account or self.office.account(), mails, self.token()))

    async def ask(self, *mails: Outgoing) -> list[Receipt | None]:
        return await self.gmail.ask(self.office.account(), mails, self.token())

    async def walk(self, link: str | None = None, since: float = 0.0, folder: str = "inbox") -> tuple[list[Arrival], str]:
        account = self.office.account(BEN)
        account = Account(account.name, "gmail", BEN, account.profile, traits=account.traits, folder=folder)
        arrivals: list[Arrival] = []
        while True:
            page = await self.gmail.page(account, link, self.token(BEN), since=since)
            arrivals += page.arrivals
            link = page.next
            if page.last:
                return arrivals, link

    def receive(self, subject: str, **headers: str) -> Mail:
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return self.office.google.office.receive(BEN, f"From: x@y.example\r\nSubject: {subject}\r\n{head}\r\nHello\r\n".encode())


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with sandbox_google.office(tmp_path) as office:
        yield Wire(office, gmail.build(FakeParts(office.http)))


def mail(stamp: str, accepted: float = 0.0, **fields: Any) -> Outgoing:
    message = Message("billing", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields)
    return Outgoing(stamp, message, accepted=accepted)


@pytest.mark.parametrize("keeps_ids", [True, False])
async def test_a_sent_mail_is_found_whatever_gmail_did_to_its_id(wire: Wire, keeps_ids: bool) -> None:
    """By the Message-ID made of the stamp where Gmail kept it, else by the stamp in our header; a neighbour's stamp is not ours."""
    wire.office.google.office.keeps_ids = keeps_ids
    await wire.send(mail("s1"), mail("s10"))
    kept = {one.message_id for one in wire.box(ANNA).mails.values()} & {"<s1@workspace.example>", "<s10@workspace.example>"}
    assert len(kept) == (2 if keeps_ids else 0)
    by_subject = {one.subject: one.id for one in wire.box(ANNA).mails.values()}
    found = await wire.ask(mail("s1"), mail("s10"), mail("s100"))
    assert [one.provider_id if one else None for one in found] == [by_subject["About s1"], by_subject["About s10"], None]


async def test_a_mail_to_an_address_in_another_alphabet_is_found(wire: Wire) -> None:
    """Its domain goes out as DNS has it, so a search for what was written would miss it."""
    sent = mail("s1", to=(Address("ann@bücher.example"),))
    [receipt] = await wire.send(sent)
    assert isinstance(receipt, Receipt)
    assert (await wire.ask(sent))[0]


async def test_only_what_was_sent_since_is_looked_at(wire: Wire) -> None:
    """Mails from before this one was accepted can't be it, so many of them are no hindrance; many since then are said to be too many."""
    now = wire.office.workspace.now()
    for n in range(260):
        raw = f"From: {ANNA}\r\nTo: {BEN}\r\nSubject: {n}\r\n\r\n".encode()
        wire.box(ANNA).put(raw, {"SENT"}).date = int((now - 86400) * 1000)
    await wire.send(mail("s1"))
    [found, missing] = await wire.ask(mail("s1", now), mail("s2", now))
    assert found
    assert missing is None
    with pytest.raises(DeliveryInDoubt, match="too_many_to_search"):
        await wire.ask(mail("s2", now - 7 * 86400))


async def test_a_reply_stays_in_its_thread(wire: Wire) -> None:
    """The thread of the mail that is answered is looked for where the account may read; it joins there, and elsewhere it does not."""
    question = wire.office.google.office.receive(
        ANNA, f"From: {BEN}\r\nTo: {ANNA}\r\nSubject: Order 7\r\nMessage-ID: <q7@y.example>\r\n\r\nWhere is it?\r\n".encode()
    )
    reply = {"in_reply_to": "<q7@y.example>", "subject": "Re: Order 7"}
    [first] = await wire.send(mail("s1", **reply))
    assert wire.box(ANNA).mails[first.provider_id].thread == question.thread
    blind = wire.office.account(permissions=frozenset({"gmail.send"}))
    [second] = await wire.send(mail("s2", **reply), account=blind)
    assert wire.box(ANNA).mails[second.provider_id].thread != question.thread
    [third] = await wire.send(mail("s3", in_reply_to="<unknown@y.example>"))
    assert isinstance(third, Receipt)


async def test_sending_alone_needs_one_permission(wire: Wire) -> None:
    """gmail.send sends, also a reply; asking is refused and the missing permission named; gmail.modify does both."""
    blind = wire.office.account(permissions=frozenset({"gmail.send"}))
    token = wire.token(scopes=(SEND,))
    [receipt] = await wire.gmail.send(blind, [mail("s1", in_reply_to="<q@y.example>")], token)
    assert isinstance(receipt, Receipt)
    with pytest.raises(NotSent) as caught:
        await wire.gmail.ask(blind, [mail("s1")], token)
    assert caught.value.code == "access_denied"
    assert "gmail.readonly" in caught.value.next_step
    [refused] = await wire.gmail.send(blind, [mail("s2")], wire.token(scopes=(READONLY,)))
    assert isinstance(refused, NotSent)
    assert "gmail.send" in refused.next_step
    both = wire.token(scopes=(MODIFY,))
    assert isinstance((await wire.gmail.send(wire.office.account(), [mail("s3")], both))[0], Receipt)
    assert (await wire.gmail.ask(wire.office.account(), [mail("s3")], both))[0]


async def test_a_token_of_another_mailbox_and_an_unknown_one(wire: Wire) -> None:
    """Neither is the mail's fault."""
    [result] = await wire.gmail.send(wire.office.account(), [mail("s1")], wire.token(BEN))
    assert isinstance(result, NotSent)
    assert result.code == "access_denied"
    wire.office.workspace.mailboxes.remove(ANNA)
    [result] = await wire.send(mail("s1"))
    assert isinstance(result, NotSent)
    assert result.code == "mailbox_unavailable"


async def test_a_quota_is_waited_for(wire: Wire) -> None:
    """403 userRateLimitExceeded is a throttle like 429, for mails and questions, and halts the rest of the slice."""
    wire.office.faults.add({"service": "google", "path": "/messages", "answer": "403", "retry_after": 9})
    results = await wire.send(*[mail(f"s{n}") for n in range(6)])
    assert {type(result) for result in results} == {Throttled, NotSent}
    assert {result.retry_after for result in results} == {9.0}
    assert wire.office.faults.all[0].hits == 4
    with pytest.raises(Throttled):
        await wire.ask(mail("s1"))


def large(stamp: str, size: int) -> Outgoing:
    return mail(stamp, attachments=(Attachment("large.bin", bytes(range(256)) * (size // 256)),))


async def test_a_large_mail_goes_in_parts(wire: Wire) -> None:
    """Above 3 MB by upload, in chunks of 8 MB; it arrives whole, in its thread, once."""
    question = wire.office.google.office.receive(ANNA, b"From: b@y.example\r\nSubject: Q\r\nMessage-ID: <q@y.example>\r\n\r\nQ\r\n")
    sent = large("s1", 15 * MEGABYTE)
    sent = Outgoing(
        "s1", Message("billing", to=sent.message.to, subject="Re: Q", in_reply_to="<q@y.example>", attachments=sent.message.attachments)
    )
    [receipt] = await wire.send(sent)
    assert receipt.path == "upload"
    assert "3145728" in receipt.why
    assert wire.box(ANNA).mails[receipt.provider_id].thread == question.thread
    [arrival] = (await wire.walk())[0]
    raw = await wire.gmail.mime(wire.office.account(BEN), arrival.id, wire.token(BEN))
    assert raw is not None
    assert [(one.name, one.size) for one in mime.parse(raw).attachments] == [("large.bin", 15 * MEGABYTE)]
    assert [row.copies for row in wire.office.google.office.sent.values()] == [1]


@pytest.mark.parametrize(
    ("fault", "kind", "lands"),
    [
        ({"method": "POST", "answer": "500"}, NotSent, False),
        ({"method": "POST", "answer": "cut"}, NotSent, False),
        ({"method": "POST", "answer": "garbage", "after_accepting": True}, NotSent, False),
        ({"method": "PUT", "answer": "500", "times": 1}, NotSent, False),
        ({"method": "PUT", "answer": "cut", "times": 1}, NotSent, False),
        ({"method": "PUT", "answer": "cut", "after_accepting": True, "times": 1}, NotSent, False),
        ({"method": "PUT", "answer": "garbage", "times": 1}, NotSent, False),
    ],
    ids=str,
)
async def test_before_its_last_part_a_large_mail_is_surely_not_sent(wire: Wire, fault: dict[str, Any], kind: type, lands: bool) -> None:
    """Whatever happens to the beginning of the session or to a chunk that is not the last: no doubt, the mail is not there."""
    wire.office.faults.add({"service": "google", "path": "/upload/", **fault})
    [result] = await wire.send(large("s1", 9 * MEGABYTE))
    assert type(result) is kind
    assert [one is not None for one in await wire.ask(mail("s1"))] == [lands]


@pytest.mark.parametrize("answer", ["cut", "500", "garbage"])
async def test_a_last_part_without_an_answer_is_doubt(wire: Wire, answer: str) -> None:
    """The mail landed, its answer is lost: that is in doubt, and asking finds it."""
    wire.office.faults.add({"service": "google", "path": "/upload/", "method": "PUT", "answer": answer, "after_accepting": True})
    [result] = await wire.send(large("s1", 4 * MEGABYTE))
    assert type(result) is DeliveryInDoubt
    assert (await wire.ask(mail("s1")))[0]


async def test_what_gmail_does_not_take(wire: Wire) -> None:
    """Over 36,700,160 bytes as MIME is refused before it is accepted, and once more before it is sent; just below it passes."""
    wire.gmail.check(large("s1", 25 * MEGABYTE).message)
    with pytest.raises(TooLarge, match="36700160") as caught:
        wire.gmail.check(large("s1", 28 * MEGABYTE).message)
    assert caught.value.field == "attachments"
    [result] = await wire.send(large("s1", 28 * MEGABYTE))
    assert isinstance(result, Refused)
    assert json.LIMIT == 36_700_160


async def uploaded(store: FakeStore, name: str, content: bytes) -> Attachment:
    await store.put_blob(UPLOADS_CONTAINER, f"crm/{name}", content)
    found = await store.find_blob(UPLOADS_CONTAINER, f"crm/{name}")
    assert found
    return Attachment(name, b"", "application/pdf", None, f"crm/{name}", found.size, found.etag)


async def test_uploaded_files_go_along(wire: Wire) -> None:
    """Read before the fence, and then in the mail, byte for byte, an empty one too; without that step nothing is sent."""
    store = FakeStore()
    here = gmail.build(FakeParts(wire.office.http, store=store))
    files = (await uploaded(store, "large.pdf", b"0123456789" * 400_000), await uploaded(store, "empty.pdf", b""))
    account, given = wire.office.account(), mail("s1", attachments=files)
    assert [one.code for one in await here.send(account, [given], wire.token())] == ["not_prepared"]  # type: ignore[union-attr]
    ready = await here.prepare(account, given, wire.token())
    assert isinstance(ready, Outgoing)
    [receipt] = await here.send(account, [ready], wire.token())
    assert isinstance(receipt, Receipt)
    [arrival] = (await wire.walk())[0]
    raw = await wire.gmail.mime(wire.office.account(BEN), arrival.id, wire.token(BEN))
    assert [(one.name, one.size) for one in mime.parse(raw or b"").attachments] == [("large.pdf", 4_000_000), ("empty.pdf", 0)]


async def test_an_upload_that_is_not_what_it_was(wire: Wire) -> None:
    """Uploaded anew, or gone: the mail is refused; a storage that is down is no fault of the mail."""
    store = FakeStore()
    here = gmail.build(FakeParts(wire.office.http, store=store))
    file = await uploaded(store, "a.pdf", b"first")
    await uploaded(store, "a.pdf", b"other")
    account, given = wire.office.account(), mail("s1", attachments=(file,))
    changed = await here.prepare(account, given, wire.token())
    await store.delete_blob(UPLOADS_CONTAINER, "crm/a.pdf")
    gone = await here.prepare(account, given, wire.token())
    assert [(type(one), one.code) for one in (changed, gone)] == [(Refused, "attachment_changed"), (Refused, "attachment_missing")]
    store.fail_next("read_blob")
    assert isinstance(await here.prepare(account, given, wire.token()), NotSent)


async def test_the_size_of_a_mail_with_uploads_is_known_to_the_byte(wire: Wire) -> None:
    """Before anything of them is read: what the door measures is what goes."""
    sizes = (27_000_000, 58, 1)
    files = tuple(Attachment(f"{size}.bin", blob="b", size=size, etag="e") for size in sizes)
    measured = json.too_large(mail("s1", attachments=files).message, wire.gmail._now())
    whole = tuple(Attachment(f"{size}.bin", bytes(size)) for size in sizes)
    assert measured == json.too_large(mail("s1", attachments=whole).message, wire.gmail._now())
    assert measured


async def test_a_walk_leaves_out_what_is_before_the_horizon(wire: Wire) -> None:
    """Old mail costs no question each; what came since is there."""
    now = wire.office.workspace.now()
    old = [wire.receive(f"old {n}") for n in range(3)]
    for one in old:
        one.date = int((now - 86400) * 1000)
    new = wire.receive("new")
    assert [arrival.id for arrival in (await wire.walk(since=now))[0]] == [new.id]
    assert len((await wire.walk())[0]) == 4


async def test_a_mail_that_is_given_the_label_later_arrives(wire: Wire) -> None:
    """Out of spam into the inbox is an arrival; a mail that was starred is none, and one that is gone again neither."""
    spam = wire.office.google.office.receive(BEN, b"Subject: spam\r\n\r\n")
    spam.labels = {"SPAM"}
    before, link = await wire.walk()
    assert before == []
    inbox = wire.receive("inbox")
    gone = wire.receive("gone")
    wire.box(BEN).add_label(spam, "INBOX")
    wire.box(BEN).delete(gone)
    arrived, link = await wire.walk(link)
    assert {arrival.id for arrival in arrived} == {spam.id, inbox.id}
    wire.box(BEN).add_label(inbox, "STARRED")
    assert (await wire.walk(link))[0] == []


async def test_a_label_of_the_users_own(wire: Wire) -> None:
    """By its name, on walks and in history; one that is missing is told."""
    wire.box(BEN).labels["Label_7"] = "Orders"
    wire.receive("elsewhere")
    order = wire.receive("order")
    order.labels.add("Label_7")
    arrived, link = await wire.walk(folder="Orders")
    assert [arrival.id for arrival in arrived] == [order.id]
    second = wire.receive("second")
    wire.box(BEN).add_label(second, "Label_7")
    assert [arrival.id for arrival in (await wire.walk(link, folder="Orders"))[0]] == [second.id]
    with pytest.raises(NotSent, match="folder_missing"):
        await wire.walk(folder="Nothing")


async def test_a_received_date_is_gmails_own(wire: Wire) -> None:
    """Not the sender's claim."""
    wire.receive("new", Date="Mon, 01 Jan 2001 00:00:00 +0000")
    [arrival] = (await wire.walk())[0]
    assert abs(arrival.received.timestamp() - wire.office.workspace.now()) < 60
