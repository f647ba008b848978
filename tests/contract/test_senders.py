"""What every provider promises that sends: on the sandbox's Graph, Gmail, Exchange and connector, over TLS (ports.Sender, ports.Preparer).

Each test runs in the four towns, with what truly differs as data there; what one provider alone promises is in its own file.
"""

from __future__ import annotations

import email.policy
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused, Throttled
from mailroom.model.account import Account
from mailroom.model.message import Address, Attachment, Outgoing, Receipt
from mailroom.model.places import UPLOADS_CONTAINER
from mailroom.model.token import Token
from mailroom.ports import Preparer
from mailroom.providers import mime
from tests.contract.smtp_towns import SEND_TOWNS
from tests.contract.towns import ANNA, BEN, WRONGS, Town, mail

AT_ONCE = 4  # requests in flight, where nobody asks for fewer
FAR = Address("far@elsewhere.example")
REPLY = {"in_reply_to": "<first@mailroom.example>"}
READY = f"From: {ANNA}\r\nTo: {BEN}\r\nSubject: About ready\r\n\r\nReady\r\n".encode()


@dataclass
class Wire:
    """`token` stays the same from call to call, as the keyring hands it out."""

    town: Town
    sender: Any
    token: Token

    async def send(self, *mails: Outgoing) -> list[Any]:
        return list(await self.sender.send(self.town.account(), mails, self.token))

    async def sent(self, *mails: Outgoing) -> list[bool]:
        """As the sandbox counted, which took no mail twice; asked, the provider says the same, or that it can't be asked."""
        copies = self.town.copies()
        assert set(copies.values()) <= {1}, copies
        counted = [one.stamp in copies for one in mails]
        if not self.town.account().can_be_asked:
            await self.has_no_answer(self.town.account(), *mails)
            return counted
        told = await self.sender.ask(self.town.account(), mails, self.token)
        assert [one is not None for one in told] == counted
        assert len({one.provider_id for one in told if one}) == sum(counted)
        return counted

    async def has_no_answer(self, account: Account, *mails: Outgoing, why: tuple[type, str] = (NotSent, ""), by: Any = None) -> None:
        """A question that fails says why; of who can't be asked it says just that."""
        with pytest.raises(ProviderError) as failed:
            await (by or self.sender).ask(account, mails, self.token)
        assert kind(failed.value) == (why if account.can_be_asked else (NotSent, "cannot_ask"))

    def arrived(self, address: str = BEN) -> list[Any]:
        """All of that inbox, as its MIME says."""
        return [mime.parse(raw) for raw in self.town.inbox(address)]


def kind(answer: Any) -> tuple[type, str]:
    return type(answer), getattr(answer, "code", "")


@pytest.fixture(params=SEND_TOWNS)
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    async with SEND_TOWNS[request.param](tmp_path) as town:
        yield Wire(town, town.provider(), town.token())


async def test_mails_of_every_kind_arrive_once_and_are_found(wire: Wire) -> None:
    """Plain mails, a reply and a ready one: each is in the recipient's inbox once, and found by its stamp; what was not sent is not."""
    mails = [mail("s1"), mail("s2"), mail("s3", **REPLY), mail("ready", mime=READY)]
    receipts = await wire.send(*mails)
    assert all(isinstance(receipt, Receipt) and receipt.path for receipt in receipts), receipts
    assert sorted(one.subject for one in wire.arrived()) == ["About ready", "About s1", "About s2", "About s3"]
    assert await wire.sent(*mails, mail("s6")) == [True] * 4 + [False]


async def test_a_full_slice_arrives(wire: Wire) -> None:
    """Twenty mails, each taken, each once."""
    mails = [mail(f"s{n}") for n in range(20)]
    assert [type(receipt) for receipt in await wire.send(*mails)] == [Receipt] * 20
    assert sorted(one.subject for one in wire.arrived()) == sorted(f"About s{n}" for n in range(20))
    assert all(await wire.sent(*mails))


async def test_everything_of_a_mail_arrives(wire: Wire) -> None:
    """Names, copies, headers, html and files come out as they went in, in a new mail and in a reply."""
    files = (Attachment("Rechnung €.pdf", b"%PDF-1.4\n.\n..", "application/pdf"), Attachment("l.png", b"PNG", "image/png", "logo"))
    fields: dict[str, Any] = {"html": "<p>Grüße</p>", "attachments": files, "headers": {"x-order": "7"}, "importance": "high"}
    people = {"to": (Address(BEN, "Bén"), FAR), "cc": (Address("c@elsewhere.example", "C, d"),), "reply_to": (Address(ANNA, "Änn"),)}
    receipts = await wire.send(mail("s1", **fields, **people), mail("s2", **fields, **people, **REPLY))
    assert [type(one) for one in receipts] == [Receipt] * 2, receipts
    for found in wire.arrived():
        assert (found.html or "").strip() == "<p>Grüße</p>"
        assert [(one.name, one.sha256) for one in sorted(found.attachments, key=lambda one: one.name)] == [
            (one.name, hashlib.sha256(one.content).hexdigest()) for one in files
        ]
        assert {"to": found.to, "cc": found.cc, "reply_to": found.reply_to} == people
        assert [one.address for one in found.sender] == [ANNA]
    heads = [BytesParser(policy=email.policy.default).parsebytes(raw, headersonly=True) for raw in wire.town.inbox()]
    assert [(head["x-order"], head["importance"].lower()) for head in heads] == [("7", "high")] * 2
    assert sorted(str(one.in_reply_to) for one in wire.arrived()) == ["None", "first@mailroom.example"]


@pytest.mark.parametrize("more", [{}, REPLY], ids=["new", "reply"])
async def test_lines_of_dots_stay_lines_of_dots(wire: Wire, more: dict[str, str]) -> None:
    """And a text keeps its letters and its ends of lines."""
    text = "Grüße\n.\n..\n.hidden\n"
    await wire.send(mail("s1", text=text, **more))
    [found] = wire.arrived()
    assert (found.text or "").replace("\r\n", "\n").strip() == text.strip()


@pytest.mark.parametrize("ready", [False, True], ids=["written", "ready"])
async def test_a_hidden_copy_stays_hidden(wire: Wire, ready: bool) -> None:
    """Bcc reaches its recipient, and nobody else sees it, whoever wrote the mail."""
    head = f"From: {ANNA}\r\nTo: {FAR.address}\r\nBcc: {BEN},\r\n other@elsewhere.example\r\nSubject: About s1\r\n"
    hidden = (Address(BEN), Address("other@elsewhere.example"))
    given = mail("s1", to=(FAR,), bcc=hidden, **({"mime": f"{head}\r\nBcc: stays\r\n".encode()} if ready else {}))
    assert [type(one) for one in await wire.send(given)] == [Receipt]
    [raw] = wire.town.inbox()
    assert BEN.encode() not in raw
    assert b"other@" not in raw
    assert (b"Bcc: stays" in raw) is ready
    assert await wire.sent(given) == [True]


@pytest.mark.parametrize("name", WRONGS)
async def test_what_an_answer_means_is_what_happened(wire: Wire, name: str) -> None:
    """Each answer is taken for no more than it says, and no mail is posted again for it; what comes after goes."""
    meant = {"turned away": wire.town.manner.rejected[0], "throttled": Throttled}.get(name.removesuffix(" though taken"), DeliveryInDoubt)
    for number, wrong in enumerate(wire.town.manner.wrongs[name]):
        struck = wire.town.faults.add(dict(wrong.fault))
        [answer] = await wire.send(mail(f"s{number}"))
        assert (type(answer), answer.retry_after, struck.hits) == (meant, wrong.pause, 1), answer
        wire.town.faults.clear()
        assert await wire.sent(mail(f"s{number}")) == [name.endswith("though taken")]
        assert [type(one) for one in await wire.send(mail(f"next{number}"))] == [Receipt]


@pytest.mark.parametrize("name", ["turned away", "throttled"])
async def test_who_is_told_to_stop_stops(wire: Wire, name: str) -> None:
    """Amid a slice: the rest is not pressed on the provider, is told as not sent, and is not."""
    mails = [mail(f"s{n}", **REPLY) for n in range(8)]
    struck = wire.town.faults.add(dict(wire.town.manner.wrongs[name][0].fault))
    answers = await wire.send(*mails)
    kinds = {type(answer) for answer in answers}
    assert kinds == {wire.town.manner.rejected[0]} if name == "turned away" else kinds == {Throttled, NotSent}
    assert struck.hits <= AT_ONCE
    wire.town.faults.clear()
    assert await wire.sent(*mails) == [False] * 8


async def test_a_mail_is_refused_for_what_is_wrong_with_it(wire: Wire) -> None:
    """One recipient that can't be refuses its mail for all of its recipients; its neighbours go."""
    mails = [mail("s1"), mail("s2", to=(Address(BEN), Address("no address"))), mail("s3")]
    first, second, third = await wire.send(*mails)
    assert kind(second) == (Refused, wire.town.manner.unfit)
    assert (type(first), type(third)) == (Receipt, Receipt)
    assert sorted(one.subject for one in wire.arrived()) == ["About s1", "About s3"]
    assert await wire.sent(*mails) == [True, False, True]


async def test_who_is_not_let_in_is_told_so(wire: Wire) -> None:
    """A revoked token, or a sign-in that is missed, is no fault of any mail; asking says the same."""
    wire.town.turn_away(wire.token)
    answers = await wire.send(mail("s1"), mail("s2"))
    assert [kind(one) for one in answers] == [wire.town.manner.rejected] * 2
    assert wire.token.value == "" or wire.token.value not in str(answers)
    await wire.has_no_answer(wire.town.account(), mail("s1"), why=wire.town.manner.rejected)
    assert wire.town.copies() == {}


async def test_a_certificate_that_is_not_trusted(wire: Wire) -> None:
    """Neither a token nor a mail goes to a host that cannot prove its name, and that is told from a host that is not there."""
    mails, why = [mail("s1"), mail("s2"), mail("s3", mime=READY)], (NotSent, "certificate_untrusted")
    struck = wire.town.faults.add(dict(wire.town.manner.wrongs["turned away"][0].fault))
    async with wire.town.strangers() as strangers:
        for account, sender in strangers:
            answers = await sender.send(account, mails, wire.token)
            assert [kind(one) for one in answers] == [why] * 3
            assert all("SSL_CERT_FILE" in one.next_step for one in answers)
            await wire.has_no_answer(account, *mails, why=why, by=sender)
    assert (struck.hits, wire.town.copies(), wire.town.inbox()) == (0, {}, [])


@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid:587"])
async def test_nobody_listens(wire: Wire, host: str) -> None:
    """A refused connection and a name that is none are known to be not sent, and a question that can be asked again."""
    account, why = wire.town.account(host=host), (NotSent, "provider_unreachable")
    answers = await wire.sender.send(account, [mail("s1"), mail("s2")], wire.token)
    assert [kind(one) for one in answers] == [why] * 2
    await wire.has_no_answer(account, mail("s1"), why=why)


async def uploaded(wire: Wire, name: str, content: bytes) -> Attachment:
    await wire.town.store.put_blob(UPLOADS_CONTAINER, f"crm/{name}", content)
    found = await wire.town.store.find_blob(UPLOADS_CONTAINER, f"crm/{name}")
    assert found
    return Attachment(name, blob=f"crm/{name}", size=found.size, etag=found.etag)


async def test_uploaded_files_go_along(wire: Wire) -> None:
    """Read before the fence, and then in the mail, byte for byte, an empty one too; without that step nothing is sent."""
    assert isinstance(wire.sender, Preparer)
    contents = {"a.bin": bytes(range(256)) * 4096, "b.txt": b"", "c.txt": b"x"}
    files = [await uploaded(wire, name, contents[name]) for name in ("a.bin", "b.txt")]
    given = mail("s1", attachments=(*files, Attachment("c.txt", contents["c.txt"])))
    assert [kind(one) for one in await wire.send(given)] == [(NotSent, "not_prepared")]
    ready = await wire.sender.prepare(wire.town.account(), given, wire.token)
    assert isinstance(ready, Outgoing), ready
    assert wire.town.store.calls.count("read_blob") == 1  # storage has no range of an empty blob
    assert await wire.sent(given) == [False]
    assert [type(one) for one in await wire.send(ready)] == [Receipt]
    [found] = wire.arrived()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert {one.name: one.sha256 for one in found.attachments} == hashes


async def test_an_upload_that_is_not_what_it_was(wire: Wire) -> None:
    """Uploaded anew, cut short or gone: the mail is refused; a storage that is down is no fault of the mail."""
    file = await uploaded(wire, "a.pdf", b"first")
    wire.town.store.fail_next("read_blob")
    for one, why in (
        (file, (NotSent, "storage_down")),
        (msgspec.structs.replace(file, etag='"other"'), (Refused, "attachment_changed")),
        (msgspec.structs.replace(file, size=file.size + 1), (Refused, "attachment_missing")),
        (msgspec.structs.replace(file, blob="crm/none"), (Refused, "attachment_missing")),
    ):
        assert kind(await wire.sender.prepare(wire.town.account(), mail("s1", attachments=(one,)), wire.token)) == why
    assert wire.town.copies() == {}
