"""Our provider against Postfix and Dovecot: what it sends is read back by IMAP, what they refuse is understood."""

from __future__ import annotations

import asyncio
import base64
import imaplib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailroom.errors import NotSent, Refused, TokenRejected
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.certificate import Certificate
from mailroom.model.message import Address, Attachment, Message, Outgoing, Receipt
from mailroom.model.received import Received
from mailroom.model.token import NO_TOKEN, Token
from mailroom.providers import _smtp_sasl as sasl
from mailroom.providers import mime, relay, smtp
from mailroom.providers.relay import Relay
from mailroom.providers.smtp import Smtp
from sandbox.ca import Ca
from sandbox.directory import GRAPH
from tests.fakes import FakeStore
from tests.servers.conftest import ANNA, BEN, Servers
from tests.waiting import until

pytestmark = pytest.mark.slow

EITHER = pytest.mark.parametrize("where", ["submission", "proxy"], ids=["postfix", "dovecot"])
MECHANISM = pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])


@pytest.fixture
async def sender(servers: Servers) -> AsyncIterator[Smtp]:
    async def trust(account: Account) -> ssl.SSLContext:
        return servers.ca.context()

    made = Smtp(lambda: 30.0, trust, FakeStore)
    yield made
    made.close()
    await asyncio.sleep(0)


def account(servers: Servers, where: str, **options: str) -> Account:
    cloud = Cloud("https://login.example", "graph", "scope", "vault", "storage")
    given = {"host": f"localhost:{getattr(servers.ports, where)}"} | options
    profile = Profile("office", "password", "t", "c", cloud)
    return Account("billing", "smtp", ANNA, profile, permissions=frozenset(), traits=smtp.TRAITS, options=tuple(sorted(given.items())))


def mail(stamp: str, **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("billing", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields))


def good(servers: Servers) -> Token:
    return Token(servers.token(), 2e9)


async def read(servers: Servers, stamp: str, mechanism: str = "xoauth2", user: str = BEN) -> list[Received]:
    """Every mail with this stamp in the user's inbox, as IMAP has it, once there is one."""

    def look() -> list[Received]:
        with imaplib.IMAP4("localhost", servers.ports.imap) as imap:
            imap.starttls(servers.ca.context())
            response = sasl.response(mechanism, user, servers.token(user), "localhost", servers.ports.imap)
            imap.authenticate(mechanism.upper(), lambda _: base64.b64decode(response))
            imap.select("INBOX")
            numbers = imap.search(None, "HEADER", "X-Mailroom-Stamp", stamp)[1][0].split()
            return [mime.parse(imap.fetch(number, "(RFC822)")[1][0][1]) for number in numbers]  # type: ignore[index,arg-type]

    return list(await until(lambda: asyncio.to_thread(look)))


@EITHER
@MECHANISM
async def test_a_mail_is_sent_and_read_back(servers: Servers, sender: Smtp, where: str, mechanism: str) -> None:
    """Signed in by token on either server and by either mechanism; IMAP, signed in the same way, has it as it went in."""
    stamp = f"{where}-{mechanism}"
    files = (Attachment("Rechnung €.pdf", b"%PDF-1.4\n.\n", "application/pdf"),)
    text = "Grüße\n.\n..\n"
    wanted = mail(stamp, text=text, html="<p>Grüße</p>", attachments=files, bcc=(Address(ANNA),))
    [receipt] = await sender.send(account(servers, where, mechanism=mechanism), [wanted], good(servers))
    assert isinstance(receipt, Receipt), receipt
    [found] = await read(servers, stamp, mechanism)
    assert (found.text or "").replace("\r\n", "\n").strip() == text.strip()
    assert [(one.name, one.size) for one in found.attachments] == [("Rechnung €.pdf", 11)]
    assert (found.subject, f"<{found.message_id}>") == (f"About {stamp}", receipt.provider_id)
    assert len(await read(servers, stamp, user=ANNA)) == 1


@EITHER
async def test_many_mails_over_one_connection(servers: Servers, sender: Smtp, where: str) -> None:
    """Forty in two calls: each arrives once."""
    stamps = [f"many-{where}-{number:02}" for number in range(40)]
    for part in (stamps[:20], stamps[20:]):
        answers = await sender.send(account(servers, where), [mail(stamp) for stamp in part], good(servers))
        assert [type(one) for one in answers] == [Receipt] * 20
    for stamp in (stamps[0], stamps[19], stamps[20], stamps[39]):
        assert len(await read(servers, stamp)) == 1


@EITHER
@MECHANISM
async def test_tokens_that_are_not_good(servers: Servers, sender: Smtp, where: str, mechanism: str) -> None:
    """Another audience, another user, an expired one, another tenant's signature: each is rejected, and no token is in the error."""
    header, claims, signature = servers.token().split(".")
    forged = ".".join((header, claims, signature[:-8] + "AAAAAAAA"))
    expired = servers.token(lifetime=-60)
    for value in (servers.token(audience=GRAPH), servers.token(BEN), expired, forged, "no.token.atall"):
        answers = await sender.send(account(servers, where, mechanism=mechanism), [mail("bad"), mail("bad2")], Token(value, 2e9))
        assert [type(one) for one in answers] == [TokenRejected] * 2, answers
        assert value not in str(answers[0])
    servers.directory.lifetime = 3599


async def test_a_sender_that_is_not_the_users(servers: Servers, sender: Smtp) -> None:
    """Postfix holds MAIL FROM against the user: ours by `from` is the account's fault, a mail's own the mail's."""
    [own] = await sender.send(account(servers, "submission", **{"from": BEN}), [mail("as")], good(servers))
    assert (type(own), getattr(own, "code", "")) == (NotSent, "send_as_denied")
    named, other = await sender.send(account(servers, "submission"), [mail("as2", sender=Address(BEN)), mail("as3")], good(servers))
    assert (type(named), getattr(named, "code", ""), type(other)) == (Refused, "send_as_denied", Receipt)


async def test_an_unknown_recipient(servers: Servers, sender: Smtp) -> None:
    """It refuses its mail for everybody, and the next one goes."""
    bad = mail("unknown", to=(Address(BEN), Address("nobody@mailroom.example")))
    refused, sent = await sender.send(account(servers, "submission"), [bad, mail("known")], good(servers))
    assert (type(refused), getattr(refused, "code", ""), type(sent)) == (Refused, "recipient_refused", Receipt)
    assert "nobody@mailroom.example" in refused.detail  # type: ignore[union-attr]


async def test_sizes(servers: Servers, sender: Smtp) -> None:
    """5 MB arrive whole; what is over the server's SIZE is refused before it goes."""
    content = bytes(range(256)) * 20 * 1024
    big, small = mail("big", attachments=(Attachment("b", content * 2),)), mail("fits", attachments=(Attachment("b", content),))
    refused, sent = await sender.send(account(servers, "submission"), [big, small], good(servers))
    assert (type(refused), getattr(refused, "code", ""), type(sent)) == (Refused, "mail_too_large", Receipt)
    [found] = await read(servers, "fits")
    assert found.attachments[0].size == len(content)


async def test_a_certificate_that_is_not_trusted(servers: Servers, tmp_path: Any) -> None:
    """Another authority's machine sends them nothing."""
    context = Ca.create(tmp_path).context()

    async def elsewhere(account: Account) -> ssl.SSLContext:
        return context

    [answer] = await Smtp(lambda: 30.0, elsewhere, FakeStore).send(account(servers, "submission"), [mail("no")], good(servers))
    assert (type(answer), getattr(answer, "code", "")) == (NotSent, "certificate_untrusted")


async def test_a_relay_by_certificate(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ours it relays nothing; with it the mail goes anywhere, unsigned-in, and arrives."""
    monkeypatch.setenv("SSL_CERT_FILE", str(servers.ca.bundle))
    now = datetime.now(UTC)
    made = servers.client
    shown = Certificate(made.key_pem.encode(), made.pem.encode(), made.thumbprint, "", now, now + timedelta(days=9), "1")

    async def plain(account: Account) -> ssl.SSLContext:
        return servers.ca.context()

    async def certified(account: Account) -> ssl.SSLContext:
        return relay.showing(shown)

    for tls, kind in ((plain, Refused), (certified, Receipt)):
        sender = Relay(lambda: 30.0, tls, FakeStore)
        [answer] = await sender.send(account(servers, "relay"), [mail(f"relayed-{kind.__name__}")], NO_TOKEN)
        sender.close()
        assert isinstance(answer, kind), answer
    assert len(await read(servers, "relayed-Receipt")) == 1
