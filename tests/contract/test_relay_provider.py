"""What the relay provider does in its own way, against the sandbox's connector: no sign-in, TLS, and our certificate where it is asked for.

What all senders promise is in test_senders.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailroom import http
from mailroom.credentials import none
from mailroom.errors import NotSent, Refused
from mailroom.keyring import Keyring
from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Message, Outgoing, Receipt
from mailroom.model.token import NO_TOKEN
from mailroom.providers import relay
from mailroom.providers.relay import ClientTls, Relay
from sandbox import smtp as sandbox_smtp
from sandbox.ca import Ca
from sandbox.faults import Faults
from sandbox.graph import create
from sandbox.graph.post import PostOffice
from sandbox.smtp import Listening
from sandbox.town import town
from tests.contract import sandbox_town
from tests.contract.smtp_towns import Certificates, certified
from tests.fakes import FakeParts, FakeStore

ANNA, BEN = "anna@mailroom.example", "ben@mailroom.example"


@dataclass
class Wire:
    faults: Faults
    office: PostOffice
    connector: Listening
    sender: Relay
    certificates: Certificates

    async def send(self, *mails: Outgoing, **options: str) -> list[Any]:
        return await self.sender.send(self.account(**options), mails, NO_TOKEN)

    def account(self, **options: str) -> Account:
        cloud = Cloud("https://login.example", "graph", "scope", "vault", "storage")
        given = {"host": f"localhost:{self.connector.port}"} | options
        profile = Profile("", "none", "", "", cloud)
        return Account("bulk", "relay", ANNA, profile, permissions=frozenset(), traits=relay.TRAITS, options=tuple(sorted(given.items())))

    def copies(self) -> dict[str, int]:
        return {row.stamp: row.copies for row in self.office.sent.values()}


@asynccontextmanager
async def wired(folder: Path, monkeypatch: pytest.MonkeyPatch, client: sandbox_town.Certificate | None = None) -> AsyncIterator[Wire]:
    """With a `client` certificate the connector knows its clients by that one alone."""
    directory, ca, faults = town((ANNA, BEN)), Ca.create(folder / "ca"), Faults()
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.bundle))  # what the machine trusts, as in production
    http.tls.cache_clear()
    office = create(directory, faults).office
    connector = await sandbox_smtp.serve(directory, faults, office, ca, clients=client and client.pem, signs_in=False)
    certificates = Certificates()
    sender = Relay(lambda: 30.0, ClientTls(lambda: certificates), FakeStore)
    try:
        yield Wire(faults, office, connector, sender, certificates)
    finally:
        faults.clear()
        sender.close()
        await connector.stop()
        http.tls.cache_clear()


def mail(stamp: str, **fields: Any) -> Outgoing:
    return Outgoing(stamp, Message("bulk", **{"to": (Address(BEN, "Ben"),), "subject": f"About {stamp}", "text": "Hello"} | fields))


async def test_mails_go_without_a_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over one connection, each once; a relay leaves nothing in Sent Items."""
    async with wired(tmp_path, monkeypatch) as wire:
        assert [type(one) for one in await wire.send(*[mail(f"s{n}") for n in range(20)])] == [Receipt] * 20
        assert wire.copies() == {f"s{n}": 1 for n in range(20)}
        assert (wire.connector.service.opened, wire.connector.service.signed_in) == (1, [])
        assert not wire.office.mailbox(ANNA).folder("sentitems").items


async def test_a_relay_that_wants_a_sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is at fault, and told what to use."""
    async with wired(tmp_path, monkeypatch) as wire:
        wire.faults.add({"service": "smtp", "path": "mail", "answer": "530 5.7.57 Client not authenticated to send mail"})
        [answer] = await wire.send(mail("s1"))
        assert (type(answer), answer.code) == (NotSent, "sign_in_required")
        assert "provider smtp" in answer.next_step


@pytest.mark.parametrize(
    ("at", "answer", "kind", "code"),
    [
        ("ehlo", "strip", NotSent, "starttls_missing"),
        ("starttls", "454 4.7.0 TLS not available", NotSent, "starttls_refused"),
        ("mail", "451 4.7.500 Server busy", NotSent, "server_deferred"),
    ],
)
async def test_what_goes_wrong_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, answer: str, kind: type, code: str
) -> None:
    """As with any server: nothing goes in the clear, and nothing is sent again by itself."""
    async with wired(tmp_path, monkeypatch) as wire:
        struck = wire.faults.add({"service": "smtp", "path": at, "answer": answer})
        [told] = await wire.send(mail("s1"))
        assert (type(told), told.code, struck.hits, wire.copies()) == (kind, code, 1, {})


async def test_a_recipient_of_another_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no connector matches, the world outside is refused, mail by mail."""
    async with wired(tmp_path, monkeypatch) as wire:
        said = "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"
        wire.faults.add({"service": "smtp", "path": "rcpt to:<ann@", "answer": said})
        refused, sent = await wire.send(mail("s1", to=(Address("ann@example.com"),)), mail("s2"))
        assert (type(refused), refused.code, type(sent)) == (Refused, "relay_denied", Receipt)


async def test_our_certificate_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the vault, asked for once; without it, with an unknown one or a missing one, nothing is sent and each is told apart."""
    known, unknown = sandbox_town.certificate(), sandbox_town.certificate()
    async with wired(tmp_path, monkeypatch, known) as wire:
        wire.certificates.known = {"ours": certified(known), "other": certified(unknown)}
        for name, code in ((None, "connector_unmatched"), ("missing", "vault_certificate_missing")):
            [answer] = await wire.send(mail("s1"), **({"client_certificate": name} if name else {}))
            assert (type(answer), answer.code) == (NotSent, code)
            wire.sender.close()
        [stranger] = await wire.send(mail("s1"), client_certificate="other")
        assert isinstance(stranger, NotSent), stranger
        assert wire.copies() == {}
        asked = wire.certificates.asked
        for stamp in ("s1", "s2"):
            wire.sender.close()
            assert isinstance((await wire.send(mail(stamp), client_certificate="ours"))[0], Receipt)
        assert wire.certificates.asked == asked + 1


def test_no_key_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads a client's key from a file: that is gone afterwards, whatever becomes of it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    relay.showing(certified(sandbox_town.certificate()))
    assert list(tmp_path.iterdir()) == []


async def test_nobody_is_asked_for_its_token() -> None:
    """The grant gives a token that is none; the keyring hands it out without a cache, an authority or a renewal."""
    account = Account("bulk", "relay", ANNA, Profile("", "none", "", "", Cloud("a", "g", "s", "v", "s")), traits=relay.TRAITS)
    assert await none.build(account.profile, FakeParts()).ask("") is NO_TOKEN

    def nobody(*_: object) -> Any:
        raise AssertionError("asked")

    ring = Keyring(None, nobody, scope_of=nobody)  # type: ignore[arg-type]
    assert await ring.token(account) is NO_TOKEN
    assert await ring.renew(account, 1e9) is False
    assert NO_TOKEN.value == ""
