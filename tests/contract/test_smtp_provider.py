"""What the SMTP provider does in its own way, against the sandbox's Exchange. What all senders promise is in test_senders.py."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailroom.errors import DeliveryInDoubt, NotSent, Refused, Throttled, TokenRejected, TooLarge
from mailroom.model.account import Account, Cloud, Profile, Traits
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.token import Token
from mailroom.ports import Preparer
from mailroom.providers import mime, smtp
from mailroom.providers._smtp_pool import Pool
from mailroom.providers.smtp import Smtp
from sandbox import smtp as sandbox_smtp
from sandbox.ca import Ca
from sandbox.directory import GRAPH, OUTLOOK, App, Directory
from sandbox.faults import Faults
from sandbox.graph import create
from sandbox.graph.items import Item
from sandbox.graph.mime import source
from sandbox.graph.post import PostOffice
from sandbox.smtp import Listening
from sandbox.town import town
from tests.fakes import FakeStore
from tests.waiting import until

ANNA, BEN, SHARED = "anna@mailroom.example", "ben@mailroom.example", "no-reply@mailroom.example"
ROLE = "SMTP.SendAsApp"


@dataclass
class Wire:
    """Anna's account sends; what she sends to Ben is in his inbox at once."""

    directory: Directory
    faults: Faults
    office: PostOffice
    exchange: Listening
    ca: Ca
    sender: Smtp
    call: float = 30.0
    kept: Token | None = None

    def account(self, address: str = ANNA, *, traits: Traits = smtp.TRAITS, host: str | None = None, **options: str) -> Account:
        cloud = Cloud("https://login.example", "graph", "scope", "vault", "storage", smtp=host or self.exchange.url.removeprefix("smtp://"))
        profile = Profile("office", "client_credentials", self.directory.tenant, "c", cloud)
        given = tuple(sorted(options.items()))
        return Account("billing", "smtp", address, profile, permissions=frozenset(), traits=traits, options=given)

    def token(self, roles: list[str] | None = None, audience: str = OUTLOOK) -> Token:
        client_id = self.directory.app("mailer").client_id
        return Token(self.directory.issue(client_id, audience, [ROLE] if roles is None else roles), 2e9)

    async def send(self, *mails: Outgoing, **options: str) -> list[Any]:
        """With the same token each time, as the keyring hands it out."""
        self.kept = self.kept or self.token()
        return await self.sender.send(self.account(**options), mails, self.kept)

    def inbox(self, address: str = BEN) -> list[Item]:
        return list(self.office.mailbox(address).folder("inbox").items.values())

    def copies(self) -> dict[str, int]:
        return {row.stamp: row.copies for row in self.office.sent.values()}


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    directory, ca, faults = town((ANNA, BEN, SHARED)), Ca.create(tmp_path), Faults()
    directory.authority = "https://login.example"
    directory.register(App("mailer", app_roles={OUTLOOK: [ROLE]}, exchange={ANNA: {"FullAccess"}}))
    graph = create(directory, faults)
    exchange = await sandbox_smtp.serve(directory, faults, graph.office, ca)
    made: Wire

    async def trust(account: Account) -> ssl.SSLContext:
        return ca.context()

    made = Wire(directory, faults, graph.office, exchange, ca, Smtp(lambda: made.call, trust, FakeStore))
    try:
        yield made
    finally:
        faults.clear()
        made.sender.close()
        await exchange.stop()


def mail(stamp: str, **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("billing", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields))


async def test_mails_arrive_over_one_connection(wire: Wire) -> None:
    """Mails of one call and of the next share a connection and a sign-in; each arrives once and is in Sent Items."""
    assert [receipt.path for receipt in await wire.send(*[mail(f"s{n}") for n in range(20)])] == ["smtp"] * 20
    assert [(receipt.path, "by SMTP" in receipt.why) for receipt in await wire.send(mail("s20"))] == [("smtp", True)]
    assert (wire.exchange.service.opened, wire.exchange.service.signed_in) == (1, ["XOAUTH2"])
    assert wire.copies() == {f"s{n}": 1 for n in range(21)}
    assert len(wire.inbox()) == 21
    assert len(wire.office.mailbox(ANNA).folder("sentitems").items) == 21


async def test_both_bodies_go_and_the_receipt_names_the_mail(wire: Wire) -> None:
    """Text beside html; the receipt has the mail's Message-ID, which is made of the stamp, and the server's answer."""
    [receipt] = await wire.send(mail("s1", html="<p>Grüße</p>", text="Grüße"))
    [item] = wire.inbox()
    found = mime.parse(item.mime or b"")
    assert (found.text, found.html) == ("Grüße", "<p>Grüße</p>")
    assert receipt.provider_id == f"<{found.message_id}>" == "<s1@mailroom.example>"
    assert "s1@mailroom.example" in receipt.request_id


async def test_a_ready_mail_goes_as_it_is(wire: Wire) -> None:
    """Signed bytes stay; the stamp, a Date and a Message-ID are added where they are missing."""
    raw = f"From: {ANNA}\nTo: {BEN}\nSubject: Ready\n\nDate: stays\n".encode()
    [receipt] = await wire.send(mail("s1", mime=raw, subject="", text=None))
    [item] = wire.inbox()
    head, _, body = (item.mime or b"").partition(b"\r\n\r\n")
    assert body == b"Date: stays\r\n"
    lines = head.split(b"\r\n")
    assert {b"X-Mailroom-Stamp: s1", b"Message-ID: <s1@mailroom.example>", b"Subject: Ready"} < set(lines)
    assert len([line for line in lines if line.startswith(b"Date: ")]) == 1
    assert receipt.provider_id == "<s1@mailroom.example>"


async def test_a_large_mail_goes(wire: Wire) -> None:
    """12 MB, three times what a request to Graph may have, arrive whole."""
    content = bytes(range(256)) * 48 * 1024
    [receipt] = await wire.send(mail("s1", attachments=(Attachment("big.bin", content),)))
    assert isinstance(receipt, Receipt), receipt
    [item] = wire.inbox()
    assert item.attachments[0].content == content


@pytest.mark.parametrize(("mechanism", "used"), [("oauthbearer", "OAUTHBEARER"), ("xoauth2", "XOAUTH2")])
async def test_either_mechanism_signs_in(wire: Wire, mechanism: str, used: str) -> None:
    """XOAUTH2 is Exchange's and Gmail's, OAUTHBEARER the standard's; an account can choose."""
    [receipt] = await wire.send(mail("s1"), mechanism=mechanism)
    assert isinstance(receipt, Receipt), receipt
    assert wire.exchange.service.signed_in == [used]


async def test_each_kind_of_token_signs_in(wire: Wire) -> None:
    """An application's with FullAccess, one with Exchange's role assignment and no role, and a person's own."""
    directory = wire.directory
    rbac = directory.register(App("rbac", exchange={ANNA: {"Application SMTP.SendAsApp"}}))
    outlook = directory.resource(OUTLOOK)
    assert outlook is not None
    person = directory.issue_delegated(directory.users[ANNA], directory.app("desktop").client_id, outlook, {"SMTP.Send"}, "0")
    for number, value in enumerate((wire.token().value, directory.issue(rbac.client_id, OUTLOOK), person)):
        [answer] = await wire.sender.send(wire.account(), [mail(f"s{number}")], Token(value, 2e9))
        assert isinstance(answer, Receipt), answer


async def test_tokens_that_are_not_good_are_told_apart(wire: Wire) -> None:
    """A wrong audience, a missing role, another mailbox, a permission that Exchange did not give, a revoked one: the token is rejected."""
    revoked = wire.token()
    wire.directory.revoke(revoked.value)
    outlook = wire.directory.resource(OUTLOOK)
    assert outlook is not None
    other = wire.directory.issue_delegated(wire.directory.users[BEN], wire.directory.app("desktop").client_id, outlook, {"SMTP.Send"}, "0")
    reading = wire.directory.issue_delegated(wire.directory.users[ANNA], "c", outlook, {"IMAP.AccessAsUser.All"}, "0")
    for token in (revoked, wire.token(audience=GRAPH), wire.token(roles=["Mail.Send"]), Token(other, 2e9), Token(reading, 2e9)):
        for mechanism in ("xoauth2", "oauthbearer"):
            answers = await wire.sender.send(wire.account(mechanism=mechanism), [mail("s1"), mail("s2")], token)
            assert [type(one) for one in answers] == [TokenRejected] * 2
            assert token.value not in str(answers[0])
    [stranger] = await wire.sender.send(wire.account(SHARED), [mail("s1")], wire.token())
    assert isinstance(stranger, TokenRejected)
    assert wire.copies() == {}


async def test_a_reason_told_in_a_challenge_is_kept(wire: Wire) -> None:
    """The 334 with the reason is answered, as Gmail wants it, and the reason is told on."""
    wire.exchange.service.challenges = True
    for mechanism in ("xoauth2", "oauthbearer"):
        [answer] = await wire.sender.send(wire.account(mechanism=mechanism), [mail("s1")], wire.token(roles=[]))
        assert isinstance(answer, TokenRejected)
        assert "invalid_token, scope https://outlook.office365.com/SMTP.Send" in answer.detail
    assert wire.exchange.service.dismissed == [b"", b"\x01"]


async def test_a_connection_is_another_tokens_no_more(wire: Wire) -> None:
    """A new token signs in anew, and the old one's connection is ended: it would count against the three."""
    for number in range(5):
        [answer] = await wire.sender.send(wire.account(), [mail(f"s{number}")], wire.token())
        assert isinstance(answer, Receipt), answer
    assert wire.exchange.service.opened == 5
    assert len(wire.exchange.service.sessions) <= 2


FAULTS = [
    # at, answer, kind, code
    ("connect", "554 5.7.1 No", NotSent, "server_refused"),
    ("connect", "421 4.3.2 Service not available", Throttled, "throttled"),
    ("connect", "cut", NotSent, "provider_unreachable"),
    ("connect", "garbage", NotSent, "answer_unclear"),
    ("ehlo", "cut", NotSent, "provider_unreachable"),
    ("ehlo", "strip", NotSent, "starttls_missing"),
    ("ehlo", "550 5.0.0 No", NotSent, "server_refused"),
    ("starttls", "454 4.7.0 TLS not available", NotSent, "starttls_refused"),
    ("starttls", "cut", NotSent, "provider_unreachable"),
    (
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
        NotSent,
        "smtp_auth_disabled",
    ),
    ("auth", "454 4.7.0 Temporary authentication failure", NotSent, "sign_in_unavailable"),
    ("auth", "432 4.3.2 Concurrent connections limit exceeded", Throttled, "throttled"),
    ("auth", "cut", NotSent, "connection_lost"),
    ("mail", "530 5.7.57 Client not authenticated to send mail", TokenRejected, "signed_out"),
    ("mail", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", NotSent, "send_as_denied"),
    ("mail", "552 5.3.4 Message size exceeds fixed maximum", Refused, "mail_too_large"),
    ("mail", "451 4.7.500 Server busy", NotSent, "server_deferred"),
    ("mail", "cut", NotSent, "connection_lost"),
    ("mail", "garbage", NotSent, "answer_unclear"),
    ("rcpt", "550 5.1.1 User unknown", Refused, "recipient_refused"),
    ("rcpt", "450 4.2.1 Greylisted", NotSent, "recipient_deferred"),
    ("rcpt", "452 4.5.3 Too many recipients", Refused, "recipients_too_many"),
    ("rcpt", "cut", NotSent, "connection_lost"),
    ("data", "451 4.3.0 Later", NotSent, "server_deferred"),
    ("data", "554 5.5.1 No valid recipients", Refused, "provider_refused"),
    ("end", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Throttled, "throttled"),
    ("end", "554 5.2.252 SendAsDenied; a not allowed to send as b", NotSent, "send_as_denied"),
    ("end", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", NotSent, "quota_exceeded"),
    ("end", "550 5.7.1 Spam", Refused, "provider_refused"),
]


@pytest.mark.parametrize(("at", "answer", "kind", "code"), FAULTS, ids=[f"{at}-{answer[:9]}" for at, answer, *_ in FAULTS])
async def test_what_an_answer_means_is_what_happened(wire: Wire, at: str, answer: str, kind: type, code: str) -> None:
    """Each answer is taken for no more than it says, whichever mail it meets; what comes after goes once."""
    wire.faults.add({"service": "smtp", "path": at, "answer": answer, "times": 1})
    [first] = await wire.send(mail("s1"))
    assert (type(first), first.code) == (kind, code), first
    assert wire.copies() == {}
    assert [type(one) for one in await wire.send(mail("s1"), mail("s2"))] == [Receipt, Receipt]
    assert wire.copies() == {"s1": 1, "s2": 1}


async def test_cut_after_the_dot_the_mail_may_have_gone(wire: Wire) -> None:
    """The server took it and its answer is lost: in doubt, and the provider itself sends nothing again."""
    wire.faults.add({"service": "smtp", "path": "end", "answer": "cut", "after_accepting": True, "times": 1})
    first, second = await wire.send(mail("s1"), mail("s2"))
    assert (type(first), type(second)) == (DeliveryInDoubt, Receipt)
    assert wire.copies() == {"s1": 1, "s2": 1}


async def test_a_refused_mail_costs_no_connection(wire: Wire) -> None:
    """Its neighbours go over the same one."""
    answers = await wire.send(mail("s1"), mail("s2", to=(Address(BEN), Address("ben@nowhere"))), mail("s3"))
    assert [type(one) for one in answers] == [Receipt, Refused, Receipt]
    assert wire.exchange.service.opened == 1


async def test_a_token_that_ends_in_the_middle(wire: Wire) -> None:
    """Signed out after the first mail: it stays sent, the rest is for a new token."""
    wire.faults.add({"service": "smtp", "path": "rcpt to:<second@", "answer": "530 5.7.57 Client not authenticated to send mail"})
    answers = await wire.send(mail("s1"), mail("s2", to=(Address("second@mailroom.example"),)), mail("s3"))
    assert [type(one) for one in answers] == [Receipt, TokenRejected, TokenRejected]
    assert wire.copies() == {"s1": 1}


async def test_a_kept_connection_that_ended_is_replaced(wire: Wire) -> None:
    """The server ended it while nobody looked, or at the next MAIL: the mail goes over a new one, once."""
    await wire.send(mail("s1"))
    for session in list(wire.exchange.service.sessions):
        session.abort()
    assert isinstance((await wire.send(mail("s2")))[0], Receipt)
    wire.faults.add({"service": "smtp", "path": "mail", "answer": "421 4.4.2 Connection timed out", "times": 1})
    assert isinstance((await wire.send(mail("s3")))[0], Receipt)
    assert wire.copies() == {"s1": 1, "s2": 1, "s3": 1}
    assert wire.exchange.service.opened == 3


@pytest.mark.parametrize(("at", "kind"), [("connect", NotSent), ("auth", NotSent), ("rcpt", NotSent), ("data", DeliveryInDoubt)])
async def test_a_server_that_hangs_ends_with_the_calls_time(wire: Wire, at: str, kind: type) -> None:
    """Only a mail whose content had begun is in doubt; those before it are sent, those behind it were not begun."""
    await wire.send(mail("s0")) if at in ("rcpt", "data") else None
    wire.call = 0.3
    wire.faults.add({"service": "smtp", "path": at, "answer": "hang"})
    first, second = await wire.send(mail("s1"), mail("s2"))
    assert (type(first), type(second)) == (kind, NotSent)
    wire.faults.clear()
    wire.call = 30.0
    assert isinstance((await wire.send(mail("s3")))[0], Receipt)


async def test_what_no_account_of_it_takes_is_not_accepted(wire: Wire) -> None:
    """Uploads count with what base64 makes of them, against the account's own server and what fits in memory."""
    assert isinstance(wire.sender, Preparer)

    def upload(size: int) -> Message:
        return Message("billing", attachments=(Attachment("f", blob="c/f", size=size),))

    wire.sender.admit(wire.account(), upload(50 * 1024 * 1024))
    for account, size in ((wire.account(), 50 * 1024 * 1024 + 1), (wire.account(preset="hve"), 8 * 1024 * 1024)):
        with pytest.raises(TooLarge):
            wire.sender.admit(account, upload(size))


async def test_given_up_from_outside_leaves_no_connection(wire: Wire) -> None:
    """Who is cancelled in the middle of a mail leaves nothing behind that the next mail would speak into."""
    wire.faults.add({"service": "smtp", "path": "end", "answer": "hang", "times": 1})
    task = asyncio.create_task(wire.send(mail("s1")))
    await until(lambda: any(fault.hits for fault in wire.faults.all))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not wire.exchange.service.sessions)
    assert isinstance((await wire.send(mail("s2")))[0], Receipt)
    assert wire.copies() == {"s2": 1}


async def test_three_connections_and_no_more(wire: Wire) -> None:
    """Ten calls at once share three connections, Exchange's limit for a mailbox."""
    answers = await asyncio.gather(*(wire.send(mail(f"s{n}")) for n in range(10)))
    token_each = wire.exchange.service
    assert all(isinstance(answer, Receipt) for [answer] in answers), answers
    assert len(token_each.sessions) <= 3


async def test_a_fixed_sender(wire: Wire) -> None:
    """`from` is who mails are from, where the mailbox may send as it; else the account is at fault, not the mail."""
    [denied] = await wire.send(mail("s1"), **{"from": SHARED})
    assert (type(denied), denied.code) == (NotSent, "send_as_denied")
    wire.directory.app("mailer").exchange[SHARED] = {"SendAs"}
    [sent] = await wire.send(mail("s2"), **{"from": SHARED})
    assert isinstance(sent, Receipt), sent
    [item] = wire.inbox()
    assert mime.parse(source(item)).sender == (Address(SHARED),)


async def test_a_mail_says_whom_it_is_from(wire: Wire) -> None:
    """`from` in the message is From and the envelope's sender; where the mailbox may not send as them, it is the mail's fault."""
    wanted = mail("s1", sender=Address(SHARED, "The shop"))
    refused, other = await wire.send(wanted, mail("s2"))
    assert (type(refused), refused.code, type(other)) == (Refused, "send_as_denied", Receipt)
    wire.directory.app("mailer").exchange[SHARED] = {"SendAs"}
    assert isinstance((await wire.send(wanted))[0], Receipt)
    assert mime.parse(source(wire.inbox()[-1])).sender == (Address(SHARED, "The shop"),)


async def test_a_ready_mail_from_somebody_else_is_the_mails_fault(wire: Wire) -> None:
    """A From that this mailbox may not use refuses the mail, and says whose it may be."""
    raw = f"From: boss@elsewhere.example\r\nTo: {BEN}\r\nSubject: Hi\r\n\r\nHi\r\n".encode()
    refused, other = await wire.send(mail("s1", mime=raw), mail("s2"))
    assert (type(refused), refused.code, type(other)) == (Refused, "send_as_denied", Receipt)
    assert "address" in refused.next_step


async def test_sizes_are_asked_before_a_byte_goes(wire: Wire) -> None:
    """What is over the server's SIZE is refused by its number, without a word to it; what nobody takes, before it is accepted."""
    wire.exchange.service.size = 5000
    big, small = await wire.send(mail("s1", text="x" * 6000), mail("s2"))
    assert (type(big), big.code, type(small)) == (Refused, "mail_too_large", Receipt)
    assert "5000" in big.detail
    with pytest.raises(TooLarge):
        wire.sender.check(Message("billing", attachments=(Attachment("a", bytes(115 * 1024 * 1024)),)))
    wire.sender.check(Message("billing", text="small"))


async def test_addresses_of_every_alphabet(wire: Wire) -> None:
    """A domain goes as DNS has it; a local part needs SMTPUTF8, and without it the mail is refused with the reason."""
    [far] = await wire.send(mail("s1", to=(Address("jörg@bücher.example"),)))
    assert isinstance(far, Receipt), far
    wire.sender.close()
    wire.exchange.service.smtputf8 = False
    refused, plain = await wire.send(mail("s2", to=(Address("jörg@bücher.example"),)), mail("s3", to=(Address("joerg@bücher.example"),)))
    assert (type(refused), refused.code, type(plain)) == (Refused, "smtputf8_missing", Receipt)


async def test_high_volume_email_has_its_own_limits(wire: Wire) -> None:
    """With the preset, 51 recipients are refused here; the host can still be another one."""
    many = tuple(Address(f"a{n}@mailroom.example") for n in range(51))
    host = wire.exchange.url.removeprefix("smtp://")
    account = wire.account(host="", preset="hve")
    account = msgspec.structs.replace(account, options=(("host", host), ("preset", "hve")))
    refused, sent = await wire.sender.send(account, [mail("s1", to=many), mail("s2")], wire.token())
    assert (type(refused), refused.code, type(sent)) == (Refused, "recipients_too_many", Receipt)


async def test_kept_connections_end_by_themselves(wire: Wire) -> None:
    """After their time they take leave, so that other instances find room among the three."""

    async def trust(account: Account) -> ssl.SSLContext:
        return wire.ca.context()

    brief = Smtp(lambda: 30.0, trust, FakeStore, pool=Pool(keep=0.01))
    await brief.send(wire.account(), [mail("s1")], wire.token())
    await until(lambda: not wire.exchange.service.sessions)
